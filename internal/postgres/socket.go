package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// socketBases are the folders in which the socket's folder may stand, the best first.
// Root's must be out of the reach of others, and reachable by the server.
func socketBases(runtimeDir string, root bool) []string {
	if root {
		return []string{"/run", "/var/run", "/tmp"}
	}
	return []string{runtimeDir, os.TempDir(), "/tmp"}
}

// makeSocketDir makes the folder of the server's socket: short, because the system
// bounds the path of a socket, and closed to everybody else, because who gets to the
// socket is asked for no password. Its name depends on the data folder alone, so what
// a killed server left behind is found again.
func makeSocketDir(bases []string, dataDir, port string, a account) (string, error) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", dataDir, a.uid))
	name := "nabu-" + hex.EncodeToString(sum[:6])
	var long []string
	for _, base := range bases {
		info, err := os.Stat(base)
		if base == "" || err != nil || !info.IsDir() {
			continue
		}
		dir := filepath.Join(base, name)
		if len(socketPath(dir, port)) > maxSocketPath {
			long = append(long, base)
			continue
		}
		return dir, claimSocketDir(dir, port, a)
	}
	if len(long) > 0 {
		return "", fmt.Errorf("the path of the server's socket would be longer than the %d characters that the system allows, in %s: set XDG_RUNTIME_DIR or TMPDIR to a shorter folder", maxSocketPath, strings.Join(long, " and "))
	}
	return "", fmt.Errorf("none of the folders for the server's socket is there: %s", strings.Join(bases, " "))
}

func socketPath(dir, port string) string { return filepath.Join(dir, ".s.PGSQL."+port) }

// claimSocketDir makes the folder, or takes over one that an earlier server left. It
// refuses what another user may have put in its place.
func claimSocketDir(dir, port string, a account) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		return a.own(dir)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, err := ownerOf(dir)
	if err != nil {
		return err
	}
	ours := owner == a.uid || a.switched && owner == os.Geteuid()
	if !info.IsDir() || !ours || info.Mode().Perm() != 0o700 {
		return fmt.Errorf("%s is not a folder that only user %s can enter: somebody else may have made it; remove it", dir, a.name)
	}
	if err := removeSocket(dir, port); err != nil {
		return err
	}
	return a.own(dir)
}

// removeSocket removes the socket of a server that is gone, and the file beside it,
// whose process number may by now be another program's.
func removeSocket(dir, port string) error {
	path := socketPath(dir, port)
	for _, leftover := range []string{path, path + ".lock"} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
