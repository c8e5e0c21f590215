package postgres

import (
	"errors"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

func TestBuffersAreAShareOfTheMemory(t *testing.T) {
	t.Parallel()
	const gigabyte = 1 << 30
	none := func() (uint64, error) { return 0, errors.New("there is none") }
	for name, test := range map[string]struct {
		container, machine memlimit.Provider
		want               string
	}{
		"an eighth":               {none, memlimit.Limit(4 * gigabyte), "512MB"},
		"of the container":        {memlimit.Limit(2 * gigabyte), memlimit.Limit(64 * gigabyte), "256MB"},
		"of the machine, if less": {memlimit.Limit(64 * gigabyte), memlimit.Limit(2 * gigabyte), "256MB"},
		"not too little":          {memlimit.Limit(gigabyte / 4), none, "128MB"},
		"not too much":            {none, memlimit.Limit(512 * gigabyte), "1024MB"},
		"nothing known":           {none, none, "128MB"},
	} {
		if got := buffers(test.container, test.machine); got != test.want {
			t.Errorf("%s: %s, not %s", name, got, test.want)
		}
	}
}
