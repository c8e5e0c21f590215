package imaging

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

func damaged(format, why string) error {
	return Refusef("The image is no %s that can be read: %s.", format, why)
}

func needsAnother(what string) error {
	return Refusef("The image has %s, which is not allowed: it must be complete in itself.", what)
}

// The incompatible features of QCOW2 that change nothing for nabu: a refcount table that is
// not up to date, compression other than zlib, extended L2 entries. Source: QEMU,
// docs/interop/qcow2.
const (
	qcow2Corrupt  = 1 << 1
	qcow2DataFile = 1 << 2
	qcow2Harmless = 1<<0 | 1<<3 | 1<<4
)

// inspectQCOW2 reads the header, big-endian: magic, version, backing file's offset and size,
// cluster bits, size, …; from version 3 on at 72 the incompatible features and at 100
// the header's length.
func inspectQCOW2(header []byte) error {
	version := binary.BigEndian.Uint32(header[4:])
	if version != 2 && version != 3 {
		return damaged(qcow2, fmt.Sprintf("its version is %d, not 2 or 3", version))
	}
	if binary.BigEndian.Uint64(header[8:]) != 0 || binary.BigEndian.Uint32(header[16:]) != 0 {
		return needsAnother("a backing file")
	}
	if bits := binary.BigEndian.Uint32(header[20:]); bits < 9 || bits > 21 {
		return damaged(qcow2, "the size of its clusters is out of bounds")
	}
	if version == 2 {
		return nil
	}
	features := binary.BigEndian.Uint64(header[72:])
	switch {
	case features&qcow2DataFile != 0:
		return needsAnother("an external data file")
	case features&qcow2Corrupt != 0:
		return damaged(qcow2, "it is marked as corrupt")
	case features&^qcow2Harmless != 0:
		return damaged(qcow2, "it has features that are not known")
	}
	if length := binary.BigEndian.Uint32(header[100:]); length < 104 {
		return damaged(qcow2, "its header is too short")
	}
	return nil
}

// inspectVDI reads the image's type at 0x4c, little-endian: 1 dynamic, 2 fixed, 3 undo,
// 4 differencing. Source: VirtualBox, VDICore.h.
func inspectVDI(header []byte) error {
	switch kind := binary.LittleEndian.Uint32(header[0x4c:]); kind {
	case 1, 2:
		return nil
	case 3, 4:
		return needsAnother("a parent image")
	default:
		return damaged(vdi, fmt.Sprintf("its type is %d", kind))
	}
}

// vhdMark begins the footer of a VHD; a copy of it begins those that grow.
const vhdMark = "conectix"

// inspectVHD reads the disk's type at 60, big-endian: 2 fixed, 3 dynamic, 4 differencing.
func inspectVHD(footer []byte) error {
	switch kind := binary.BigEndian.Uint32(footer[60:]); kind {
	case 2, 3:
		return nil
	case 4:
		return needsAnother("a parent image")
	default:
		return damaged(vhd, fmt.Sprintf("its type is %d", kind))
	}
}

// isFixedVHD looks for a footer at the end: a VHD of fixed size is a raw disk with one.
func isFixedVHD(image io.ReaderAt, size int64) (bool, error) {
	if size < 512 {
		return false, nil
	}
	footer := make([]byte, 512)
	if _, err := image.ReadAt(footer, size-512); err != nil && err != io.EOF {
		return false, fmt.Errorf("read the image's end: %w", err)
	}
	if !bytes.HasPrefix(footer, []byte(vhdMark)) {
		return false, nil
	}
	return true, inspectVHD(footer)
}

// The parts of a VHDX that lead to whether it has a parent. Source: [MS-VHDX] 2.2.3, 2.6.
var (
	vhdxRegions     = []int64{192 << 10, 256 << 10} // two copies of the region table
	vhdxMetadata    = []byte("\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e")
	vhdxParameters  = []byte("\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b")
	vhdxTable       = 64 << 10
	vhdxMostEntries = 2047
)

// inspectVHDX follows the region table to the metadata and there to the file parameters,
// whose second flag says that there is a parent. Every copy that can be read counts.
func inspectVHDX(image io.ReaderAt) error {
	read := false
	for _, offset := range vhdxRegions {
		table, err := vhdxRead(image, offset)
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(table, []byte("regi")) {
			continue
		}
		where := vhdxFind(table, 16, binary.LittleEndian.Uint32(table[8:]), vhdxMetadata)
		if where == nil {
			continue
		}
		begin := binary.LittleEndian.Uint64(where)
		if begin > 1<<50 {
			return damaged(vhdx, "its metadata is nowhere")
		}
		if err := inspectVHDXMetadata(image, int64(begin)); err != nil {
			return err
		}
		read = true
	}
	if !read {
		return damaged(vhdx, "it has no table of its regions")
	}
	return nil
}

func inspectVHDXMetadata(image io.ReaderAt, begin int64) error {
	metadata, err := vhdxRead(image, begin)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(metadata, []byte("metadata")) {
		return damaged(vhdx, "its metadata is not where it should be")
	}
	item := vhdxFind(metadata, 32, uint32(binary.LittleEndian.Uint16(metadata[10:])), vhdxParameters)
	if item == nil {
		return damaged(vhdx, "its metadata has no file parameters")
	}
	parameters := make([]byte, 8)
	if _, err := image.ReadAt(parameters, begin+int64(binary.LittleEndian.Uint32(item))); err != nil {
		if err == io.EOF {
			return damaged(vhdx, "its file parameters are behind its end")
		}
		return fmt.Errorf("read the image's parameters: %w", err)
	}
	if binary.LittleEndian.Uint32(parameters[4:])&2 != 0 {
		return needsAnother("a parent image")
	}
	return nil
}

// vhdxRead reads a table; zeros where the image has ended.
func vhdxRead(image io.ReaderAt, offset int64) ([]byte, error) {
	table := make([]byte, vhdxTable)
	if _, err := image.ReadAt(table, offset); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read the image's tables: %w", err)
	}
	return table, nil
}

// vhdxFind looks for an entry of 32 bytes by the GUID that begins it, and gives the rest.
func vhdxFind(table []byte, first int, count uint32, id []byte) []byte {
	for i := range min(int(count), vhdxMostEntries) {
		offset := first + 32*i
		if offset+32 > len(table) {
			break
		}
		if entry := table[offset : offset+32]; bytes.Equal(entry[:16], id) {
			return entry[16:]
		}
	}
	return nil
}

const (
	vmdkMark       = "KDMV"
	vmdkText       = "# disk descriptorfile"
	vmdkSector     = 512
	vmdkDescriptor = 1<<20 - 1          // most bytes of a descriptor, as in QEMU
	vmdkAtEnd      = 0xffffffffffffffff // the grain directory's place is in a footer
)

// isVMDK: a sparse extent with a header, or a descriptor alone.
func isVMDK(head []byte) bool {
	return bytes.HasPrefix(head, []byte(vmdkMark)) || strings.HasPrefix(strings.ToLower(string(at(head, 0, len(vmdkText)))), vmdkText)
}

// inspectVMDK takes sparse extents whose descriptor is inside and names no other file, as
// oslo.utils does. The header, little-endian: magic, version, flags, capacity, grain size,
// the descriptor's offset and size in sectors, …; at 56 the grain directory's place.
func inspectVMDK(image io.ReaderAt, header []byte, size int64) error {
	if !bytes.HasPrefix(header, []byte(vmdkMark)) {
		return needsAnother("its data in other files")
	}
	if version := binary.LittleEndian.Uint32(header[4:]); version < 1 || version > 3 {
		return damaged(vmdk, fmt.Sprintf("its version is %d, not 1 to 3", version))
	}
	offset, sectors := binary.LittleEndian.Uint64(header[28:]), binary.LittleEndian.Uint64(header[36:])
	if offset != 1 || sectors == 0 {
		return damaged(vmdk, "its descriptor is not behind its header")
	}
	if binary.LittleEndian.Uint64(header[56:]) == vmdkAtEnd {
		if err := inspectVMDKFooter(image, header, size); err != nil {
			return err
		}
	}
	descriptor := make([]byte, min(sectors*vmdkSector, vmdkDescriptor))
	n, err := image.ReadAt(descriptor, vmdkSector)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the image's descriptor: %w", err)
	}
	return inspectVMDKDescriptor(descriptor[:n])
}

// inspectVMDKFooter: the footer counts more than the header, so it must say the same. It
// stands in the last sector but one.
func inspectVMDKFooter(image io.ReaderAt, header []byte, size int64) error {
	footer := make([]byte, 512)
	if size < 4*vmdkSector {
		return damaged(vmdk, "it has no footer")
	}
	if _, err := image.ReadAt(footer, size-2*vmdkSector); err != nil && err != io.EOF {
		return fmt.Errorf("read the image's footer: %w", err)
	}
	const grains = 56 // what differs: the grain directory's place
	if !bytes.Equal(footer[:8], header[:8]) || !bytes.Equal(footer[28:44], header[28:44]) ||
		binary.LittleEndian.Uint64(footer[grains:]) == vmdkAtEnd {
		return damaged(vmdk, "its footer is not like its header")
	}
	return nil
}

// inspectVMDKDescriptor reads the text of a descriptor: every line must be one that is known,
// and no extent may lie in another folder.
func inspectVMDKDescriptor(descriptor []byte) error {
	descriptor = bytes.TrimRight(descriptor, "\x00")
	kind, extents := "", 0
	for line := range strings.SplitSeq(strings.ToLower(string(descriptor)), "\n") {
		line = strings.TrimSpace(line)
		key, value, isField := strings.Cut(line, "=")
		access, _, _ := strings.Cut(line, " ")
		switch {
		case line == "" || line[0] == '#' || strings.HasPrefix(line, "ddb"):
		case strings.ContainsFunc(line, func(char rune) bool { return char > '~' || char < ' ' && char != '\t' }):
			return damaged(vmdk, "its descriptor is no plain text")
		case isField && !strings.Contains(strings.TrimSpace(key), " "):
			if strings.TrimSpace(key) == "createtype" {
				kind = strings.Trim(strings.TrimSpace(value), `"`)
			}
			if strings.TrimSpace(key) == "parentfilenamehint" {
				return needsAnother("a parent image")
			}
		case access == "rw" || access == "rdonly" || access == "noaccess":
			if strings.ContainsAny(line, `/\`) {
				return needsAnother("its data in other files")
			}
			extents++
		default:
			return damaged(vmdk, "its descriptor has a line that is not known")
		}
	}
	switch {
	case kind != "monolithicsparse" && kind != "streamoptimized":
		return Refusef("The image is a VMDK of type %s. It must be monolithicSparse or streamOptimized.", shown(kind))
	case extents != 1:
		return damaged(vmdk, "its descriptor does not name one extent")
	}
	return nil
}
