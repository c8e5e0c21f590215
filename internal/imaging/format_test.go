package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// patch writes values over an image, in the byte order of their format.
type patch struct {
	at    int
	value any
}

func big(size int, patches ...patch) []byte    { return build(binary.BigEndian, size, patches) }
func little(size int, patches ...patch) []byte { return build(binary.LittleEndian, size, patches) }

func build(order binary.ByteOrder, size int, patches []patch) []byte {
	image := make([]byte, size)
	for _, p := range patches {
		var value bytes.Buffer
		if text, isText := p.value.(string); isText {
			value.WriteString(text)
		} else if err := binary.Write(&value, order, p.value); err != nil {
			panic(err)
		}
		copy(image[p.at:], value.Bytes())
	}
	return image
}

// smallQCOW2 is an image of version 2 or 3, with what is patched in.
func smallQCOW2(version uint32, patches ...patch) []byte {
	return big(1<<10, append([]patch{
		{0, "QFI\xfb"}, {4, version}, {20, uint32(16)}, {24, uint64(1 << 30)}, {100, uint32(104)},
	}, patches...)...)
}

const goodDescriptor = `# Disk DescriptorFile
version=1
CID=7ee4d4e7
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW 20480 SPARSE "disk.vmdk"

# The Disk Data Base
ddb.adapterType = "ide"
`

func smallVMDK(descriptor string, patches ...patch) []byte {
	return little(8<<10, append([]patch{
		{0, "KDMV"}, {4, uint32(1)}, {12, uint64(20480)}, {28, uint64(1)}, {36, uint64(4)}, {512, descriptor},
	}, patches...)...)
}

// streamed is a VMDK whose footer counts.
func streamed(footer ...patch) []byte {
	image := smallVMDK(strings.Replace(goodDescriptor, "monolithicSparse", "streamOptimized", 1), patch{56, uint64(vmdkAtEnd)})
	end := len(image) - 2*vmdkSector
	copy(image[end:], image[:512])
	binary.LittleEndian.PutUint64(image[end+56:], 3)
	for _, p := range footer {
		copy(image[end+p.at:], little(8, patch{0, p.value}))
	}
	return image
}

func smallVHDX(flags uint32, patches ...patch) []byte {
	const metadata = 1 << 20
	return little(metadata+128<<10, append([]patch{
		{0, "vhdxfile"},
		{192 << 10, "regi"}, {192<<10 + 8, uint32(1)}, {192<<10 + 16, string(vhdxMetadata)}, {192<<10 + 32, uint64(metadata)},
		{metadata, "metadata"}, {metadata + 10, uint16(1)}, {metadata + 32, string(vhdxParameters)}, {metadata + 48, uint32(64 << 10)},
		{metadata + 64<<10, uint32(1 << 20)}, {metadata + 64<<10 + 4, flags},
	}, patches...)...)
}

func smallISO(patches ...patch) []byte {
	return little(64<<10, append([]patch{{32 << 10, "\x01CD001\x01"}}, patches...)...)
}

var partitions = patch{510, uint16(0xaa55)}

func TestWhatAnImageIs(t *testing.T) {
	plain := bytes.Repeat([]byte("no magic here. "), 100)
	fixed := append(bytes.Clone(plain), big(512, patch{0, "conectix"}, patch{60, uint32(2)})...)
	tests := map[string]struct {
		image    []byte
		declared string
		says     string // of the refusal; empty: it is taken
	}{
		"raw":                                  {plain, "raw", ""},
		"a byte":                               {[]byte("x"), "raw", ""},
		"a kernel":                             {plain, "aki", ""},
		"a machine image":                      {plain, "ami", ""},
		"raw with partitions":                  {little(1<<10, partitions), "raw", ""},
		"partitions":                           {little(1<<10, partitions), "gpt", ""},
		"no partitions":                        {plain, "gpt", "is not gpt as declared: its content is raw"},
		"a FAT file system":                    {little(1<<10, partitions, patch{0x10, byte(2)}, patch{0x15, byte(0xf8)}), "gpt", "its content is raw"},
		"an encrypted disk":                    {[]byte("LUKS\xba\xbe\x00\x01"), "raw", ""},
		"qcow2 version 2":                      {smallQCOW2(2), "qcow2", ""},
		"qcow2 version 3":                      {smallQCOW2(3), "qcow2", ""},
		"qcow2 that is dirty and compressed":   {smallQCOW2(3, patch{72, uint64(1 | 8)}), "qcow2", ""},
		"qcow2 version 2 with no features":     {smallQCOW2(2, patch{72, uint64(4)}), "qcow2", ""}, // that is where its extensions are
		"qcow version 1":                       {smallQCOW2(1), "qcow2", "its version is 1, not 2 or 3"},
		"qcow2 with a backing file":            {smallQCOW2(3, patch{8, uint64(512)}, patch{16, uint32(11)}), "qcow2", "has a backing file"},
		"qcow2 with a backing file's name":     {smallQCOW2(2, patch{16, uint32(11)}), "qcow2", "has a backing file"},
		"qcow2 with a data file":               {smallQCOW2(3, patch{72, uint64(4)}), "qcow2", "has an external data file"},
		"qcow2 that is corrupt":                {smallQCOW2(3, patch{72, uint64(2)}), "qcow2", "marked as corrupt"},
		"qcow2 from the future":                {smallQCOW2(3, patch{72, uint64(1 << 40)}), "qcow2", "features that are not known"},
		"qcow2 with a short header":            {smallQCOW2(3, patch{100, uint32(72)}), "qcow2", "its header is too short"},
		"qcow2 with odd clusters":              {smallQCOW2(3, patch{20, uint32(63)}), "qcow2", "clusters is out of bounds"},
		"qcow2 cut off":                        {[]byte("QFI\xfb"), "qcow2", "its version is 0"},
		"qcow2 declared raw":                   {smallQCOW2(3), "raw", "The image is not raw as declared: its content is qcow2."},
		"raw declared qcow2":                   {plain, "qcow2", "The image is not qcow2 as declared: its content is raw."},
		"qcow2 declared vmdk":                  {smallQCOW2(3), "vmdk", "its content is qcow2"},
		"qed":                                  {[]byte("QED\x00"), "raw", "its content is qed"},
		"two formats":                          {smallISO(patch{0, "QFI\xfb"}), "qcow2", "of several formats at once: qcow2, iso"},
		"a qcow2 with partitions":              {smallQCOW2(3, patch{510, uint16(0x55aa)}), "qcow2", "several formats at once: qcow2, gpt"},
		"iso":                                  {smallISO(), "iso", ""},
		"iso that boots from a stick":          {smallISO(partitions), "iso", ""},
		"iso declared raw":                     {smallISO(), "raw", "its content is iso"},
		"UDF":                                  {little(64<<10, patch{32 << 10, "\x00NSR02\x01"}), "iso", ""},
		"vdi":                                  {little(512, patch{0x40, uint32(0xbeda107f)}, patch{0x4c, uint32(1)}), "vdi", ""},
		"vdi with a parent":                    {little(512, patch{0x40, uint32(0xbeda107f)}, patch{0x4c, uint32(4)}), "vdi", "has a parent image"},
		"vdi of no type":                       {little(512, patch{0x40, uint32(0xbeda107f)}), "vdi", "its type is 0"},
		"vhd that grows":                       {big(1<<10, patch{0, "conectix"}, patch{60, uint32(3)}), "vhd", ""},
		"vhd of fixed size":                    {fixed, "vhd", ""},
		"vhd with a parent":                    {big(1<<10, patch{0, "conectix"}, patch{60, uint32(4)}), "vhd", "has a parent image"},
		"vhd of no type":                       {big(1<<10, patch{0, "conectix"}), "vhd", "its type is 0"},
		"raw declared vhd":                     {plain, "vhd", "its content is raw"},
		"a byte declared vhd":                  {[]byte("x"), "vhd", "its content is raw"},
		"vhdx":                                 {smallVHDX(0), "vhdx", ""},
		"vhdx with a parent":                   {smallVHDX(2), "vhdx", "has a parent image"},
		"vhdx that names its metadata nowhere": {smallVHDX(0, patch{192<<10 + 32, uint64(1 << 63)}), "vhdx", "its metadata is nowhere"},
		"vhdx without its metadata":            {smallVHDX(0, patch{192<<10 + 32, uint64(5)}), "vhdx", "its metadata is not where it should be"},
		"vhdx without parameters":              {smallVHDX(0, patch{1<<20 + 32, "x"}), "vhdx", "has no file parameters"},
		"vhdx with parameters behind its end":  {smallVHDX(0, patch{1<<20 + 48, uint32(1 << 31)}), "vhdx", "are behind its end"},
		"vhdx without tables":                  {[]byte("vhdxfile"), "vhdx", "no table of its regions"},
		"vmdk":                                 {smallVMDK(goodDescriptor), "vmdk", ""},
		"vmdk that is streamed":                {streamed(), "vmdk", ""},
		"vmdk with a footer of its own":        {streamed(patch{28, uint64(9)}), "vmdk", "its footer is not like its header"},
		"vmdk whose footer has a footer":       {streamed(patch{56, uint64(vmdkAtEnd)}), "vmdk", "its footer is not like its header"},
		"vmdk in other files":                  {[]byte(goodDescriptor), "vmdk", "has its data in other files"},
		"vmdk in another folder":               {smallVMDK(strings.Replace(goodDescriptor, "disk.vmdk", "/etc/passwd", 1)), "vmdk", "its data in other files"},
		"vmdk with two extents":                {smallVMDK(goodDescriptor + "RW 1 SPARSE \"more.vmdk\"\n"), "vmdk", "does not name one extent"},
		"vmdk with no extent":                  {smallVMDK(strings.Replace(goodDescriptor, "RW 20480", "# RW", 1)), "vmdk", "does not name one extent"},
		"vmdk of another type":                 {smallVMDK(strings.Replace(goodDescriptor, "monolithicSparse", "monolithicFlat", 1)), "vmdk", "monolithicSparse or streamOptimized"},
		"vmdk with a parent":                   {smallVMDK(goodDescriptor + "parentFileNameHint=\"base.vmdk\"\n"), "vmdk", "has a parent image"},
		"vmdk with an odd line":                {smallVMDK(goodDescriptor + "what is this\n"), "vmdk", "a line that is not known"},
		"vmdk with odd letters":                {smallVMDK(goodDescriptor + "note=\x01\n"), "vmdk", "is no plain text"},
		"vmdk of another version":              {smallVMDK(goodDescriptor, patch{4, uint32(9)}), "vmdk", "its version is 9"},
		"vmdk with its descriptor elsewhere":   {smallVMDK(goodDescriptor, patch{28, uint64(99)}), "vmdk", "not behind its header"},
		"a format that nobody knows":           {plain, "floppy", `Disk format "floppy" is not supported`},
		"a format that only others know":       {plain, "qed", `Disk format "qed" is not supported`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := Check(bytes.NewReader(test.image), int64(len(test.image)), test.declared)
			wantRefusal(t, err, test.says)
		})
	}
}

// wantRefusal wants an error for the user with some words; no words: no error.
func wantRefusal(t *testing.T, err error, says string) {
	t.Helper()
	refusal, refused := errors.AsType[*Refusal](err)
	if says == "" && err != nil || says != "" && (!refused || !strings.Contains(refusal.Text, says)) {
		t.Errorf("%v, not %q", err, says)
	}
}

// FuzzHeaders: whatever the bytes are, they are taken or refused, and no raw image has
// another format's mark.
func FuzzHeaders(f *testing.F) {
	for _, image := range [][]byte{
		smallQCOW2(3), smallQCOW2(2), smallVMDK(goodDescriptor), streamed(), smallISO(partitions), []byte(goodDescriptor),
		big(1<<10, patch{0, "conectix"}, patch{60, uint32(3)}), smallVHDX(2)[:256<<10],
	} {
		for i := range DiskFormats {
			f.Add(image, uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, image []byte, format uint8) {
		declared := DiskFormats[int(format)%len(DiskFormats)]
		err := Check(bytes.NewReader(image), int64(len(image)), declared)
		if _, refused := errors.AsType[*Refusal](err); err != nil && !refused {
			t.Fatal(err)
		}
		if err == nil && declared == raw && bytes.HasPrefix(image, []byte("QFI\xfb")) {
			t.Fatal("a qcow2 was taken as raw")
		}
	})
}

func ExampleCheck() {
	image := smallQCOW2(3)
	fmt.Println(Check(bytes.NewReader(image), int64(len(image)), "raw"))
	// Output: The image is not raw as declared: its content is qcow2.
}
