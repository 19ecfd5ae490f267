# What is done with the packages in a bare Debian, as root: $1 is PostgreSQL's version, $2 whether the cluster is made by
# hand. /packages/before has the package to begin with, /packages/after the one to upgrade to, and /first_record.sh the
# lines of README.md. Each command is shown, and the first that fails ends it.
set -eux
major=$1 cluster=$2
package=postgresql-$major-audit-algolia
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
echo "127.0.0.1 localhost $(hostname)" > /etc/hosts
printf '%s\n' 'APT::Get::Assume-Yes "true";' 'APT::Install-Recommends "false";' > /etc/apt/apt.conf.d/99-test
apt-get update -qq
apt-get install -qq sudo > /dev/null
query() { sudo -u postgres psql -X -q -A -t -v ON_ERROR_STOP=1 -c "$1"; }
installed() { dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$package"; }

# From nothing to a record.
if [ "$cluster" = by-hand ]; then
    mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/none.conf
fi
cd /packages/before
eval "$(sed -n 1p /first_record.sh)"
if [ "$cluster" = by-hand ]; then
    pg_createcluster "$major" main
fi
eval "$(sed -n 2p /first_record.sh)"
eval "$(sed -n 3p /first_record.sh)"
test "$(query 'select delivered_total, state from audit_algolia.queue_stats()')" = '1|idle'
installed
for file in copyright changelog.gz changelog.Debian.gz crates.txt.gz README.md docs/install.md examples/scan_ingest.sql; do
    test -s "/usr/share/doc/$package/$file"
done

# To the next package.
apt-get install -qq /packages/after/*.deb
installed
query "insert into log values (2, 'while the old library is in use')"
test "$(query 'select audit_algolia.flush()')" = t
pg_ctlcluster "$major" main restart
query 'alter extension audit_algolia update'
query "insert into log values (3, 'with the new library')"
test "$(query 'select audit_algolia.flush()')" = t
query "select extversion from pg_extension where extname = 'audit_algolia'"
# A server that shuts down ends background workers with FATAL. Between the restart and the update, versions may differ.
expected='FATAL:  terminating background worker|WARNING:  audit_algolia delivers nothing: '
if grep -E 'ERROR|FATAL|PANIC|WARNING' "/var/log/postgresql/postgresql-$major-main.log" | grep -v -E "$expected"; then
    exit 1
fi

# Back to nothing.
query 'drop extension audit_algolia cascade'
rm "/etc/postgresql/$major/main/conf.d/audit_algolia.conf"
pg_ctlcluster "$major" main restart
apt-get remove -qq "$package"
test "$(query 'select count(*) from log')" = 3
# Removal leaves nothing that could be purged.
apt-get install -qq /packages/after/*.deb
apt-get purge -qq "$package"
if installed; then exit 1; fi
left=$(find / -xdev \( -name '*audit*algolia*' -o -name '*audit_algolia*' \) -not -path '/packages/*')
test -z "$left"
pg_ctlcluster "$major" main stop
