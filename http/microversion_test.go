package http

import (
	"net/http"
	"strings"
	"testing"
)

func TestChooseMicroversion(t *testing.T) {
	t.Parallel()
	volume := microversions{service: "volume", min: microversion{3, 0}, max: microversion{3, 71}}
	compute := microversions{"compute", "X-OpenStack-Nova-API-Version", microversion{2, 1}, microversion{2, 104}}
	const older = "X-OpenStack-Nova-API-Version"
	for name, test := range map[string]struct {
		of      microversions
		headers []string
		want    string // or the refusal
		told    string // in the answer
	}{
		"none":                     {volume, nil, "3.0", "volume 3.0"},
		"one":                      {volume, []string{"OpenStack-API-Version", "volume 3.5"}, "3.5", "volume 3.5"},
		"the latest":               {volume, []string{"OpenStack-API-Version", "volume latest"}, "3.71", "volume 3.71"},
		"in a list":                {volume, []string{"OpenStack-API-Version", "compute 2.1, volume 3.3 , volume 3.5"}, "3.3", "volume 3.3"},
		"of another service":       {volume, []string{"OpenStack-API-Version", "compute 2.1"}, "3.0", "volume 3.0"},
		"too new":                  {volume, []string{"OpenStack-API-Version", "volume 9.9"}, "406 Version 9.9 is not supported by the API. Minimum is 3.0 and maximum is 3.71.", "volume 9.9"},
		"too new by little":        {volume, []string{"OpenStack-API-Version", "volume 3.72"}, "406 Version 3.72 is not supported by the API. Minimum is 3.0 and maximum is 3.71.", "volume 3.72"},
		"too old":                  {volume, []string{"OpenStack-API-Version", "volume 2.9"}, "406 Version 2.9 is not supported by the API. Minimum is 3.0 and maximum is 3.71.", "volume 2.9"},
		"a word":                   {volume, []string{"OpenStack-API-Version", "volume abc"}, "400 API Version String abc is of invalid format. Must be of format MajorNum.MinorNum.", ""},
		"three numbers":            {volume, []string{"OpenStack-API-Version", "volume 3.5.1"}, "400 API Version String 3.5.1 is of invalid format. Must be of format MajorNum.MinorNum.", ""},
		"a leading zero":           {volume, []string{"OpenStack-API-Version", "volume 3.05"}, "400 API Version String 3.05 is of invalid format. Must be of format MajorNum.MinorNum.", ""},
		"nothing":                  {volume, []string{"OpenStack-API-Version", "volume"}, "400 API Version String  is of invalid format. Must be of format MajorNum.MinorNum.", ""},
		"the older header":         {compute, []string{older, "2.51"}, "2.51", "compute 2.51"},
		"both headers":             {compute, []string{older, "2.51", "OpenStack-API-Version", "compute 2.60"}, "2.60", "compute 2.60"},
		"the older one is no good": {compute, []string{older, "x"}, "400 API Version String x is of invalid format. Must be of format MajorNum.MinorNum.", ""},
	} {
		request, answer := http.Header{}, http.Header{}
		for i := 0; i < len(test.headers); i += 2 {
			request.Set(test.headers[i], test.headers[i+1])
		}
		v, err := test.of.choose(request, answer)
		got := v.String()
		if err != nil {
			p := err.(*problem)
			got = strings.Join([]string{map[int]string{400: "400", 406: "406"}[p.status], p.description}, " ")
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		if told := answer.Get("OpenStack-API-Version"); told != test.told {
			t.Errorf("%s: told %q, want %q", name, told, test.told)
		}
		vary, version := answer.Values("Vary"), strings.TrimPrefix(test.told, "compute ")
		if test.of.older == "" {
			version = ""
		}
		if vary[0] != "OpenStack-API-Version" || test.of.older != "" && (len(vary) != 2 || vary[1] != older) || answer.Get(older) != version {
			t.Errorf("%s: Vary %q, older header %q", name, vary, answer.Get(older))
		}
	}
}
