package outbound

import (
	"errors"
	"net/netip"
	"net/url"
	"testing"
)

func TestWhatTheImportFilterTakes(t *testing.T) {
	named := Filter{AllowHosts: []string{"Images.example", "127.0.0.1"}, DenyHosts: []string{"images.example"}}
	tests := map[string]struct {
		filter Filter
		url    string
		passes bool
	}{
		"plain":                                {Filter{}, "http://images.example/x.qcow2", true},
		"with TLS":                             {Filter{}, "https://images.example/x.qcow2", true},
		"another scheme":                       {Filter{}, "ftp://images.example/x", false},
		"a scheme that nobody speaks":          {Filter{AllowSchemes: []string{"ftp"}}, "ftp://images.example/x", false},
		"a scheme that is not allowed":         {Filter{AllowSchemes: []string{"https"}}, "http://images.example/x", false},
		"a scheme that is denied":              {Filter{DenySchemes: []string{"http"}}, "http://images.example/x", false},
		"another port":                         {Filter{}, "http://images.example:8080/x", false},
		"a port that is allowed":               {Filter{AllowPorts: []uint16{8080}}, "http://images.example:8080/x", true},
		"a usual port that is not":             {Filter{AllowPorts: []uint16{8080}}, "http://images.example/x", false},
		"a port that is denied":                {Filter{DenyPorts: []uint16{22}}, "http://images.example:22/x", false},
		"a port that is not denied":            {Filter{DenyPorts: []uint16{22}}, "http://images.example:23/x", true},
		"a port that is none":                  {Filter{}, "http://images.example:99999/x", false},
		"no host":                              {Filter{}, "http:///x", false},
		"a number for a host":                  {Filter{}, "http://2130706433/x", false},
		"an octal number":                      {Filter{}, "http://0177.0.0.1/x", false},
		"a hexadecimal number":                 {Filter{}, "http://0x7f000001/x", false},
		"a host that is allowed":               {named, "http://IMAGES.example./x", true}, // the denying list is off
		"a host that is not":                   {named, "http://other.example/x", false},
		"a host that is denied":                {Filter{DenyHosts: []string{"bad.example"}}, "http://Bad.example/x", false},
		"an allowing and a denying list":       {Filter{AllowPorts: []uint16{80}, DenyPorts: []uint16{80}}, "http://images.example/x", true},
		"an address, for the guard to look at": {Filter{}, "http://127.0.0.1/x", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(test.url)
			if err != nil {
				t.Fatal(err)
			}
			err = test.filter.CheckURL(u)
			if (err == nil) != test.passes || err != nil && !errors.Is(err, ErrRefused) {
				t.Errorf("%s: %v", test.url, err)
			}
		})
	}
}

func TestWhereTheImportFilterLooks(t *testing.T) {
	opened := Filter{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	for _, test := range []struct {
		filter Filter
		host   string
		passes bool
	}{
		{Filter{}, "93.184.216.34", true}, {Filter{}, "10.1.2.3", true}, {Filter{}, "fd00::1", true},
		{Filter{}, "127.0.0.1", false}, {Filter{}, "::1", false}, {Filter{}, "localhost", false}, {Filter{}, "::ffff:127.0.0.1", false},
		{Filter{}, "169.254.169.254", false}, {Filter{}, "fe80::1", false}, {Filter{}, "fd00:ec2::254", false},
		{Filter{AllowHosts: []string{"LOCALHOST"}}, "localhost", true}, {Filter{AllowHosts: []string{"169.254.169.254"}}, "169.254.169.254", true},
		{Filter{AllowHosts: []string{"images.example"}}, "localhost", false},
		{opened, "127.0.0.1", true}, {opened, "127.0.0.2", false},
	} {
		err := test.filter.CheckHost(t.Context(), test.host)
		if (err == nil) != test.passes || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s by %+v: %v", test.host, test.filter, err)
		}
	}
}
