package imaging

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
)

// Import is what the input of an import task asks for.
type Import struct {
	From       string
	DiskFormat string
	// Properties of the image as it is made: Glance's base properties with values of their
	// types, all others texts. Disk format and container format are among them.
	Properties map[string]any
	// Checksums that the bytes must have.
	Checksums []Checksum
}

// Names of properties that are more than passed on.
const (
	propertyDisk      = "disk_format"
	propertyContainer = "container_format"
	propertyProtected = "protected"
	propertyName      = "name"
	propertyOwner     = "owner"
)

// containers are the container formats whose content is the disk itself. Of archives (ova,
// docker, compressed) nothing could be said.
var containers = []string{"bare", "ovf", "ami", "ari", "aki"}

// readOnly are properties that the image service makes.
var readOnly = []string{
	"id", "status", "size", "virtual_size", "created_at", "updated_at", "file", "self", "schema", "direct_url", "locations", "stores",
}

// baseProperties are those whose values are no texts, with what they must be.
var baseProperties = map[string]struct {
	is  string
	fit func(any) bool
}{
	"min_disk":        {"a whole number", isWhole},
	"min_ram":         {"a whole number", isWhole},
	propertyProtected: {"true or false", isBool},
	"os_hidden":       {"true or false", isBool},
	"tags":            {"a list of texts", areTexts},
}

// ReadImport reads a task's input. It refuses what cannot become an image of the owner.
func ReadImport(input []byte, owner string) (Import, error) {
	var asked struct {
		From       string         `json:"import_from"`
		Format     string         `json:"import_from_format"`
		Properties map[string]any `json:"image_properties"`
	}
	if err := json.Unmarshal(input, &asked); err != nil {
		return Import{}, Refusef("import_from and import_from_format must be texts and image_properties an object.")
	}
	if asked.From == "" {
		return Import{}, Refusef("Input does not contain 'import_from' field")
	}
	i := Import{From: asked.From, Properties: maps.Clone(asked.Properties)}
	if i.Properties == nil {
		i.Properties = map[string]any{}
	}
	if given, has := i.Properties[propertyOwner]; has && given != owner {
		return Import{}, Refusef("image_properties: owner must be the task's, or absent.")
	}
	delete(i.Properties, propertyOwner)
	if err := i.takeChecksums(); err != nil {
		return Import{}, err
	}
	if err := i.checkProperties(); err != nil {
		return Import{}, err
	}
	return i, i.takeFormats(asked.Format)
}

// takeChecksums takes out what the bytes must add up to, under Glance's names. It makes them
// itself and would not take them.
func (i *Import) takeChecksums() error {
	texts := map[string]string{}
	for _, name := range []string{"checksum", "os_hash_algo", "os_hash_value"} {
		given, has := i.Properties[name]
		text, isText := given.(string)
		if has && given != nil && !isText {
			return Refusef("image_properties: %s must be a text.", name)
		}
		texts[name] = text
		delete(i.Properties, name)
	}
	if sum := texts["checksum"]; sum != "" {
		i.Checksums = append(i.Checksums, Checksum{"md5", sum})
	}
	algorithm, value := texts["os_hash_algo"], texts["os_hash_value"]
	if (algorithm == "") != (value == "") {
		return Refusef("image_properties: os_hash_algo and os_hash_value belong together.")
	}
	if value != "" {
		i.Checksums = append(i.Checksums, Checksum{strings.ToLower(algorithm), value})
	}
	for _, c := range i.Checksums {
		if err := c.check(); err != nil {
			return err
		}
	}
	return nil
}

func (i *Import) checkProperties() error {
	for _, name := range slices.Sorted(maps.Keys(i.Properties)) {
		value := i.Properties[name]
		base, isBase := baseProperties[name]
		_, isText := value.(string)
		switch {
		case slices.Contains(readOnly, name), strings.HasPrefix(name, ownPrefix):
			return Refusef("image_properties: %s is read-only.", shown(name))
		case isBase && !base.fit(value):
			return Refusef("image_properties: %s must be %s.", name, base.is)
		case !isBase && !isText:
			return Refusef("image_properties: %s must be a text.", shown(name))
		}
	}
	return nil
}

// takeFormats settles the two formats. Nothing is converted, so what is fetched is what the
// image is.
func (i *Import) takeFormats(from string) error {
	disk, _ := i.Properties[propertyDisk].(string)
	if disk == "" {
		disk = from
	}
	if from != "" && from != disk {
		return Refusef("import_from_format is %s and disk_format %s: images are not converted.", shown(from), shown(disk))
	}
	if !slices.Contains(DiskFormats, disk) {
		return Refusef("Disk format %s is not supported. It must be one of %s.", shown(disk), strings.Join(DiskFormats, ", "))
	}
	container, _ := i.Properties[propertyContainer].(string)
	if container == "" {
		container = "bare"
	}
	if !slices.Contains(containers, container) {
		return Refusef("Container format %s is not supported. It must be one of %s.", shown(container), strings.Join(containers, ", "))
	}
	i.DiskFormat = disk
	i.Properties[propertyDisk], i.Properties[propertyContainer] = disk, container
	return nil
}

func isWhole(value any) bool {
	n, isNumber := value.(float64)
	return isNumber && n >= 0 && n <= math.MaxInt32 && n == math.Trunc(n)
}

func isBool(value any) bool {
	_, is := value.(bool)
	return is
}

func areTexts(value any) bool {
	list, isList := value.([]any)
	return isList && !slices.ContainsFunc(list, func(item any) bool { _, isText := item.(string); return !isText })
}
