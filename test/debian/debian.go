// Package debian makes root directories of Debian's packages for tests and measurements. Nothing is installed on
// this machine: apt-get fetches, dpkg unpacks.
package debian

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// script makes a directory of unmodified packages, fetched and unpacked without installing them.
const script = `set -e
rm -rf $2 $2.part
mkdir -p $2.part/archives/partial $2.part/root
: >$2.part/status
apt-get -qq -y --no-install-recommends --download-only -o Debug::NoLocking=1 -o APT::Sandbox::User= \
	-o Dir::State::status="$PWD/$2.part/status" -o Dir::Cache="$PWD/$2.part" -o Dir::Cache::archives=archives \
	install $1
for p in $2.part/archives/*.deb; do dpkg -x "$p" $2.part/root; done
rm -rf $2.part/archives $2.part/*.bin
mkdir -p $2.part/root/tmp
chmod 755 $2.part/root
ln -sf mawk $2.part/root/usr/bin/awk
mkdir -p $2.part/root/root $2.part/root/var/tmp
chmod 1777 $2.part/root/tmp $2.part/root/var/tmp
printf 'root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n' >$2.part/root/etc/passwd
printf 'root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n' >$2.part/root/etc/group
printf '127.0.0.1 localhost\n::1 localhost\n' >$2.part/root/etc/hosts
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >$2.part/root/etc/nsswitch.conf
mv $2.part $2
`

// Fetch sees to it that cache/name/root holds the packages and what they depend on. What is there already, of the
// same packages, stays. Names are symbolic links for usr/bin, with their targets.
func Fetch(cache, name, packages string, names map[string]string) error {
	list := filepath.Join(cache, name, "packages")
	if had, err := os.ReadFile(list); err == nil && string(had) == packages {
		return nil
	}
	if err := os.MkdirAll(cache, 0o777); err != nil {
		return err
	}
	cmd := exec.Command("sh", "-c", script, "sh", packages, name)
	cmd.Dir = cache
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make a root of Debian's packages: %w\n%s", err, out)
	}
	for link, target := range names {
		if err := os.Symlink(target, filepath.Join(cache, name, "root/usr/bin", link)); err != nil {
			return err
		}
	}
	return os.WriteFile(list, []byte(packages), 0o666)
}
