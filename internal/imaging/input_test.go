package imaging

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatAnImportAsksFor(t *testing.T) {
	sum := strings.Repeat("ab", 64)
	got, err := ReadImport([]byte(`{"import_from": "http://images.example/x", "import_from_format": "qcow2", "backend": "fast", "image_properties": {
		"name": "x", "disk_format": "qcow2", "container_format": "bare", "min_disk": 10, "min_ram": 512, "protected": true,
		"tags": ["a"], "os_hidden": false, "visibility": "shared", "architecture": "x86_64", "owner": "p1",
		"checksum": "d41d8cd98f00b204e9800998ecf8427e", "os_hash_algo": "SHA512", "os_hash_value": "`+sum+`"}}`), "p1")
	if err != nil {
		t.Fatal(err)
	}
	want := Import{
		From: "http://images.example/x", DiskFormat: "qcow2",
		Properties: map[string]any{
			"name": "x", "disk_format": "qcow2", "container_format": "bare", "min_disk": 10.0, "min_ram": 512.0, "protected": true,
			"tags": []any{"a"}, "os_hidden": false, "visibility": "shared", "architecture": "x86_64",
		},
		Checksums: []Checksum{{"md5", "d41d8cd98f00b204e9800998ecf8427e"}, {"sha512", sum}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestImportsThatAreRefused(t *testing.T) {
	for input, says := range map[string]string{
		`[]`:                         "image_properties an object",
		`{"import_from": 1}`:         "must be texts",
		`{"import_from_format":"x"}`: "Input does not contain 'import_from' field",
		`{"import_from": "u", "import_from_format": "floppy"}`: `Disk format "floppy" is not supported`,
		`{"import_from": "u"}`:                                 `Disk format "" is not supported`,
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"disk_format": "qcow2"}}`:                     "images are not converted",
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"container_format": "ova"}}`:                  `Container format "ova"`,
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"size": 5}}`:                                  `"size" is read-only`,
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"nabu_task_id": "x"}}`:                        `"nabu_task_id" is read-only`,
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"owner": "p2"}}`:                              "owner must be the task's",
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"min_disk": "5"}}`:                            "min_disk must be a whole number",
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"min_ram": -1}}`:                              "min_ram must be a whole number",
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"min_ram": 1e99}}`:                            "min_ram must be a whole number",
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"protected": "yes"}}`:                         "protected must be true or false",
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"tags": [1]}}`:                                "tags must be a list of texts",
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"os_version": 12}}`:                           `"os_version" must be a text`,
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"name": null}}`:                               `"name" must be a text`,
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"checksum": 5}}`:                              "checksum must be a text",
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"checksum": "5"}}`:                            "no md5 in hexadecimal",
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"os_hash_value": "00"}}`:                      "belong together",
		`{"import_from": "u", "import_from_format": "raw", "image_properties": {"os_hash_algo": "x", "os_hash_value": "00"}}`: `os_hash_algo "x"`,
	} {
		_, err := ReadImport([]byte(input), "p1")
		if err == nil {
			t.Errorf("%s was taken", input)
			continue
		}
		wantRefusal(t, err, says)
	}
}
