"""The texts of the configuration files: pure functions of the settings."""

from __future__ import annotations

import random

from settings import Settings

DATABASE_PORT = 7306
MUNGE = "/run/munge/munge.socket.2"  # where Debian's programs look for it


def slurm_conf(s: Settings, munge: str = MUNGE) -> str:
    """Return slurm.conf(5), with short timeouts: what takes minutes on a real site takes seconds here."""
    lines = dict(part.split("=", 1) for part in base(s, munge).split())
    further = [line.strip() for line in s.lines]
    lines.update(line.split("=", 1) for line in further if is_plain(line))  # type: ignore[misc]
    texts = [f"{key}={value}" for key, value in lines.items()]
    texts += [node(s, name) for name in s.node_names] + partitions(s)
    return "\n".join([*texts, *(line for line in further if not is_plain(line)), ""])


def is_plain(line: str) -> bool:
    return not line.startswith(("PartitionName=", "NodeName="))


def base(s: Settings, munge: str) -> str:
    return f"""
    ClusterName=dev{s.number}
    SlurmctldHost=head({s.address("head")})
    AuthType=auth/munge
    AuthInfo=socket={munge},cred_expire=5
    CredType=cred/munge
    SlurmUser=root
    SlurmdUser=root
    StateSaveLocation=/var/spool/slurmctld
    SlurmdSpoolDir=/var/spool/slurmd
    SlurmctldPidFile=/run/slurmctld.pid
    SlurmdPidFile=/run/slurmd.pid
    SlurmctldDebug=info
    SlurmdDebug=info
    SlurmdParameters=config_overrides
    ProctrackType=proctrack/{"cgroup" if s.cgroups else "linuxproc"}
    TaskPlugin=task/{"cgroup" if s.cgroups else "none"}
    JobAcctGatherType=jobacct_gather/linux
    JobAcctGatherFrequency=5
    MpiDefault=none
    MailProg=/bin/true
    ReturnToService=2
    TCPTimeout=5
    MessageTimeout=15
    SlurmctldTimeout=30
    SlurmdTimeout=10
    KillWait=5
    MinJobAge=300
    FirstJobId={1000 + random.randrange(200000)}
    MaxArraySize=10001
    MaxJobCount=20000
    SchedulerType=sched/backfill
    SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1,default_queue_depth=2000
    SelectType=select/cons_tres
    SelectTypeParameters=CR_CPU_Memory
    DefMemPerCPU={s.memory_mb // (2 * s.cpus)}
    PriorityType=priority/basic
    JobRequeue=1
    PreemptType=preempt/partition_prio
    PreemptMode=REQUEUE
    SlurmctldParameters=preempt_send_user_signal
    GresTypes=gpu
    {accounting(s, munge)}"""


def accounting(s: Settings, munge: str) -> str:
    if not s.accounting:
        return "AccountingStorageType=accounting_storage/none"
    enforce = "AccountingStorageEnforce=associations,limits" if s.max_submit else ""
    return f"""AccountingStorageType=accounting_storage/slurmdbd
    AccountingStorageHost={s.address("head")}
    AccountingStoragePass={munge}
    AccountingStorageTRES=gres/gpu
    {enforce}"""


def node(s: Settings, name: str) -> str:
    gres = f" Gres=gpu:{s.gpus}" if gpus_of(s, name) else ""
    cores = f"CPUs={s.cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={s.cpus} ThreadsPerCore=1"
    return f"NodeName={name} NodeAddr={s.address(name)} {cores} RealMemory={s.memory_mb}{gres} State=UNKNOWN"


def gpus_of(s: Settings, name: str) -> int:
    return s.gpus if name.startswith("node") and (name != "node1" or s.nodes == 1) else 0


def partitions(s: Settings) -> list[str]:
    same = "MaxTime=1-0 DefaultTime=10 State=UP OverSubscribe=NO"
    everywhere = f"Nodes={','.join(s.node_names)}"
    found = [
        f"PartitionName=main {everywhere} Default=YES {same} PriorityTier=1 GraceTime=20",
        f"PartitionName=high {everywhere} {same} PriorityTier=10 PreemptMode=OFF",
    ]
    if having := [name for name in s.node_names if gpus_of(s, name)]:
        found.append(f"PartitionName=gpu Nodes={','.join(having)} {same} PriorityTier=1 GraceTime=20")
    return found


def gres_conf(s: Settings) -> str:
    """Return gres.conf(5). The devices are real files that do nothing; a bare count would not be constrained."""
    having = [name for name in s.node_names if gpus_of(s, name)]
    return "".join(f"NodeName={name} Name=gpu File=/dev/nvidia[0-{s.gpus - 1}]\n" for name in having)


def cgroup_conf(s: Settings) -> str:
    return "CgroupPlugin=cgroup/v1\nConstrainRAMSpace=yes\nConstrainDevices=yes\n" if s.cgroups else ""


def slurmdbd_conf(s: Settings) -> str:
    values = {
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={MUNGE}",
        "DbdHost": "head",
        "DbdAddr": s.address("head"),
        "SlurmUser": "root",
        "PidFile": "/run/slurmdbd.pid",
        "DebugLevel": "info",
        "StorageType": "accounting_storage/mysql",
        "StorageHost": "127.0.0.1",
        "StoragePort": str(DATABASE_PORT),
        "StorageUser": "slurm",
        "StoragePass": "slurm",
        "StorageLoc": "slurm_acct",
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


def hosts(s: Settings) -> str:
    named = "".join(f"{s.address(machine)} {machine}\n" for machine in s.machines)
    return f"127.0.0.1 localhost\n{s.host_address} outside\n{named}"


def sshd_conf(s: Settings, *, one_time: bool) -> str:
    """Return sshd_config(5): by key on port 22; by a one-time password alone on port 2222."""
    port, methods = (2222, "keyboard-interactive:pam") if one_time else (22, "publickey")
    return f"""Port {port}
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile none
UsePAM {"yes" if one_time else "no"}
AuthenticationMethods {methods}
KbdInteractiveAuthentication {"yes" if one_time else "no"}
PasswordAuthentication no
PermitRootLogin yes
PrintMotd no
UseDNS no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""
