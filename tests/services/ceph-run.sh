#!/bin/bash
# A whole Ceph object store in one process tree: a monitor, an OSD that keeps its objects in memory, and radosgw.
#   ceph-run.sh PORT MONITOR_PORT ACCESS_KEY SECRET_KEY      in an empty folder /ceph; makes /ceph/ready when it is
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin CEPH_CONF=/ceph/ceph.conf
port=$1 monitor=127.0.0.1:$2 access=$3 secret=$4
id=$(cat /proc/sys/kernel/random/uuid)
mkdir /ceph/mon /ceph/osd /ceph/run /ceph/log

# cephx stays on: radosgw doesn't start without. The two paxos lines bring a start from 20 s to 3 s.
cat >$CEPH_CONF <<CONF
[global]
fsid = $id
mon host = v2:$monitor
mon initial members = a
ms bind msgr1 = false
keyring = /ceph/keyring
run dir = /ceph/run
admin socket = /ceph/run/\$name.asok
log file = /ceph/log/\$name.log
auth allow insecure global id reclaim = false
paxos propose interval = 0.05
paxos min wait = 0.02
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
[mon.a]
mon data = /ceph/mon
[osd.0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd data = /ceph/osd
osd objectstore = memstore
memstore device bytes = 8589934592
osd memory target = 939524096
osd class load list = *
osd class default list = *
osd crush initial weight = 1
crush location = root=default host=only
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:$port
rgw thread pool size = 64
rgw relaxed s3 bucket names = false
rgw run sync thread = false
rgw init timeout = 60
rgw s3 auth use sts = true
rgw sts key = ${id:0:16}
CONF

ceph-authtool --create-keyring /ceph/keyring --gen-key -n mon. --cap mon 'allow *'
for name in client.admin osd.0 client.rgw.a; do
    ceph-authtool /ceph/keyring --gen-key -n $name --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
done
monmaptool --create --fsid "$id" --addv a "[v2:$monitor]" /ceph/monmap
ceph-mon --mkfs -i a --monmap /ceph/monmap --keyring /ceph/keyring
ceph-mon -i a
osd=$(cat /proc/sys/kernel/random/uuid)
ceph osd new "$osd" 0
ceph-osd -i 0 --mkfs --osd-uuid "$osd"
ceph-osd -i 0
until ceph osd stat | grep -q '1 up'; do sleep 0.1; done
radosgw -n client.rgw.a
radosgw-admin user create --uid=tests --display-name=tests --access-key="$access" --secret-key="$secret" --caps='roles=*'
touch /ceph/ready
exec sleep infinity
