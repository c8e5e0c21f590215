// Package imaging fetches disk images, looks at what they are and stores them. It must never
// trust what an image says of itself further than its header's bytes reach, nor tell a
// user how it looks inside nabu.
package imaging

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Refusal is an error whose text is for the user who wanted the image.
type Refusal struct{ Text string }

func (r *Refusal) Error() string { return r.Text }

// Refusef is a refusal with a formatted text.
func Refusef(format string, args ...any) error {
	return &Refusal{fmt.Sprintf(format, args...)}
}

// because is a Refusal for the user with its cause, if one is known, for the log.
func because(refusal, cause error) error {
	if cause == nil {
		return refusal
	}
	return fmt.Errorf("%w: %w", refusal, cause)
}

// Disk formats under Glance's names, and two that are only recognised.
const (
	raw   = "raw"
	qcow2 = "qcow2"
	vmdk  = "vmdk"
	vdi   = "vdi"
	vhd   = "vhd"
	vhdx  = "vhdx"
	iso   = "iso"
	gpt   = "gpt" // a disk with a partition table, old or new
	qed   = "qed"
	luks  = "luks"
)

// DiskFormats are the formats that an image may have.
var DiskFormats = []string{raw, qcow2, vmdk, vdi, vhd, vhdx, iso, gpt, "ami", "ari", "aki"}

// headSize is how much of an image's beginning is read at once: to the end of the first
// descriptor of an ISO.
const headSize = 34 << 10

// Check refuses an image whose bytes are not of the declared disk format, or that needs or
// names other files. It reads headers only.
func Check(image io.ReaderAt, size int64, declared string) error {
	if !slices.Contains(DiskFormats, declared) {
		return Refusef("Disk format %s is not supported. It must be one of %s.", shown(declared), strings.Join(DiskFormats, ", "))
	}
	head := make([]byte, headSize)
	n, err := image.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the image's head: %w", err)
	}
	found := detect(head[:n])
	if declared == vhd && len(found) == 0 {
		fixed, err := isFixedVHD(image, size)
		if err != nil {
			return err
		}
		if fixed {
			return nil
		}
	}
	if len(found) > 1 {
		return Refusef("The image is of several formats at once: %s.", strings.Join(found, ", "))
	}
	if is := append(found, raw)[0]; !fits(is, declared) {
		return Refusef("The image is not %s as declared: its content is %s.", declared, is)
	}
	return inspect(image, head[:n], size, declared)
}

// fits tells whether content may be declared as a format. As in Glance a disk with
// partitions is still a raw one, and what has no header of its own is taken for whatever
// has none. LUKS is for the guest to open.
func fits(is, declared string) bool {
	switch declared {
	case raw, "ami", "ari", "aki":
		return is == raw || is == gpt || is == luks
	}
	return is == declared
}

// detect finds the formats whose marks are in an image's head; none: it is raw. A disk that
// is an ISO too boots from either, and is an ISO, as oslo.utils has it.
func detect(head []byte) (found []string) {
	for _, format := range []struct {
		name string
		is   bool
	}{
		{qcow2, bytes.HasPrefix(head, []byte("QFI\xfb"))},
		{qed, bytes.HasPrefix(head, []byte("QED\x00"))},
		{vhd, bytes.HasPrefix(head, []byte(vhdMark))},
		{vhdx, bytes.HasPrefix(head, []byte("vhdxfile"))},
		{vmdk, isVMDK(head)},
		{vdi, binary.LittleEndian.Uint32(at(head, 0x40, 4)) == 0xbeda107f},
		{luks, bytes.HasPrefix(head, []byte("LUKS\xba\xbe"))},
		{iso, isISO(head)},
		{gpt, hasPartitions(head)},
	} {
		if format.is {
			found = append(found, format.name)
		}
	}
	if slices.Equal(found, []string{iso, gpt}) {
		return found[:1]
	}
	return found
}

// at is a part of an image's head; zeros where the image has ended.
func at(head []byte, offset, size int) []byte {
	part := make([]byte, size)
	if offset < len(head) {
		copy(part, head[offset:])
	}
	return part
}

// isISO looks for the first volume descriptor of ISO 9660 or UDF.
func isISO(head []byte) bool {
	mark := string(at(head, 32<<10+1, 5))
	return mark == "CD001" || mark == "NSR02" || mark == "NSR03" || mark == "BEA01"
}

// hasPartitions looks for a boot record that is not a FAT file system's.
func hasPartitions(head []byte) bool {
	isFAT := at(head, 0x10, 1)[0] == 2 && at(head, 0x15, 1)[0] == 0xf8
	return binary.LittleEndian.Uint16(at(head, 510, 2)) == 0xaa55 && !isFAT
}

// inspect looks at what a format's header says of other files.
func inspect(image io.ReaderAt, head []byte, size int64, format string) error {
	switch format {
	case qcow2:
		return inspectQCOW2(at(head, 0, 104))
	case vmdk:
		return inspectVMDK(image, at(head, 0, 512), size)
	case vdi:
		return inspectVDI(at(head, 0, 512))
	case vhd:
		return inspectVHD(at(head, 0, 512))
	case vhdx:
		return inspectVHDX(image)
	}
	return nil
}

// shown is a text of the user's as it is told back.
func shown(text string) string {
	const most = 40
	if chars := []rune(text); len(chars) > most {
		text = string(chars[:most]) + "…"
	}
	return fmt.Sprintf("%q", text)
}
