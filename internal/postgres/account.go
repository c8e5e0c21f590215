package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is who the server runs as: nabu's own user or, because PostgreSQL refuses
// to run as root, one of lesser rights.
type account struct {
	name     string
	uid, gid int
	switched bool // nabu is root and the server is not
}

// lesserUsers are whom root lets the server run as, the first that exists.
var lesserUsers = []string{"nabu", "postgres", "nobody"}

// serverAccount finds who runs, or will run, the server of a cluster.
func serverAccount(cluster string) (account, error) {
	if euid := os.Geteuid(); euid != 0 {
		return accountByID(euid)
	}
	if uid, err := ownerOf(cluster); err == nil {
		return ownerAccount(cluster, uid)
	}
	for _, name := range lesserUsers {
		if u, err := user.Lookup(name); err == nil {
			a, err := accountOf(u)
			a.switched = true
			return a, err
		}
	}
	return account{}, fmt.Errorf("PostgreSQL does not run as root, and this machine has none of the users %s: add one (useradd --system nabu)", strings.Join(lesserUsers, ", "))
}

// ownerAccount is the owner of a cluster that is there: PostgreSQL runs as nobody else.
func ownerAccount(cluster string, uid int) (account, error) {
	if uid == 0 {
		return account{}, fmt.Errorf("folder %s belongs to root, and PostgreSQL does not run as root: give it to another user (chown -R nobody %s)", cluster, cluster)
	}
	a, err := accountByID(uid)
	a.switched = true
	return a, err
}

func accountByID(uid int) (account, error) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return account{}, fmt.Errorf("user id %d has no entry in /etc/passwd, and PostgreSQL does not run without one: add a line such as \"nabu:x:%d:%d::/:/bin/false\", run as another user, or use a PostgreSQL you have (--database-url): %w", uid, uid, os.Getgid(), err)
	}
	return accountOf(u)
}

func accountOf(u *user.User) (account, error) {
	uid, errUID := strconv.Atoi(u.Uid)
	gid, errGID := strconv.Atoi(u.Gid)
	return account{name: u.Username, uid: uid, gid: gid}, errors.Join(errUID, errGID)
}

// credential makes a child process run as the account; nil if nabu already does.
func (a account) credential() *syscall.Credential {
	if !a.switched {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// own gives a folder that nabu has just made to the account.
func (a account) own(path string) error {
	if !a.switched {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// reach refuses a path that the account cannot get to. The error names the folder
// whose permissions are in the way.
func (a account) reach(path string) error {
	if !a.switched {
		return nil
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, folder := range append(withParents(path), withParents(target)...) {
		info, err := os.Stat(folder)
		if err != nil {
			return err
		}
		if info.IsDir() && !a.maySearch(info) {
			return fmt.Errorf("user %s, who has to run PostgreSQL because nabu is root, cannot pass folder %s (mode %04o): choose another place, or let others pass (chmod o+x %s)", a.name, folder, info.Mode().Perm(), folder)
		}
	}
	return nil
}

// withParents lists a path and all folders above it, from the root down.
func withParents(path string) []string {
	if parent := filepath.Dir(path); parent != path {
		return append(withParents(parent), path)
	}
	return []string{path}
}

func (a account) maySearch(info fs.FileInfo) bool {
	mode := info.Mode().Perm()
	owner, known := info.Sys().(*syscall.Stat_t)
	switch {
	case !known:
		return true
	case int(owner.Uid) == a.uid:
		return mode&0o100 != 0
	case int(owner.Gid) == a.gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

func ownerOf(path string) (uid int, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	stat, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, fmt.Errorf("owner of %s is unknown", path)
	}
	return int(stat.Uid), nil
}
