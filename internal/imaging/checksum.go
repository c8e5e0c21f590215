package imaging

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"io"
	"strings"
)

// Checksum is what the bytes of an image must add up to.
type Checksum struct {
	Algorithm string // a name of hashes
	Value     string // hexadecimal
}

// hashes are the algorithms that checksums may have, under the names that Glance shows in
// os_hash_algo.
var hashes = map[string]func() hash.Hash{
	"md5": md5.New, "sha1": sha1.New, "sha224": sha256.New224, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New,
}

// check refuses a checksum that cannot be right.
func (c Checksum) check() error {
	makes, known := hashes[c.Algorithm]
	if !known {
		return Refusef("os_hash_algo %s is not supported. It must be md5, sha1, sha224, sha256, sha384 or sha512.", shown(c.Algorithm))
	}
	if sum, err := hex.DecodeString(c.Value); err != nil || len(sum) != makes().Size() {
		return Refusef("The checksum is no %s in hexadecimal digits.", c.Algorithm)
	}
	return nil
}

// sums adds bytes up by several algorithms at once.
type sums map[string]hash.Hash

// newSums always has SHA-512, which is stored beside an image.
func newSums(wanted []Checksum) sums {
	s := sums{"sha512": sha512.New()}
	for _, c := range wanted {
		s[c.Algorithm] = hashes[c.Algorithm]()
	}
	return s
}

func (s sums) reset() {
	for _, h := range s {
		h.Reset()
	}
}

// to also writes to what is being added up.
func (s sums) to(w io.Writer) io.Writer {
	writers := []io.Writer{w}
	for _, h := range s {
		writers = append(writers, h)
	}
	return io.MultiWriter(writers...)
}

func (s sums) value(algorithm string) string { return hex.EncodeToString(s[algorithm].Sum(nil)) }

// verify refuses bytes that are not those that were meant.
func (s sums) verify(wanted []Checksum) error {
	for _, c := range wanted {
		if is := s.value(c.Algorithm); !strings.EqualFold(is, c.Value) {
			return Refusef("The image's %s is %s, not %s as given.", c.Algorithm, is, strings.ToLower(c.Value))
		}
	}
	return nil
}
