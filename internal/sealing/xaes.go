package sealing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"errors"
)

// Sizes in bytes. A nonce is random: its first half derives a key of its own from the
// long one, its second half is what AES-256-GCM takes with that.
const (
	keySize   = 32
	nonceSize = 24
	tagSize   = 16
)

// errDamaged: a cipher text is not what this key has sealed for this place.
var errDamaged = errors.New("the cipher text is damaged, or was sealed for something else")

// xaes is XAES-256-GCM of C2SP: AES-256-GCM with keys derived by AES-CMAC (NIST SP
// 800-108), so that random nonces do not run out however much one key seals.
type xaes struct {
	block  cipher.Block
	subkey [aes.BlockSize]byte // CMAC's K1
}

// newXAES takes a key of 32 bytes.
func newXAES(key []byte) (*xaes, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.subkey[:], x.subkey[:])
	var carry byte
	for i := len(x.subkey) - 1; i >= 0; i-- {
		carry, x.subkey[i] = x.subkey[i]>>7, x.subkey[i]<<1|carry
	}
	x.subkey[len(x.subkey)-1] ^= carry * 0b10000111
	return x, nil
}

// derive makes AES-256-GCM for the first half of a nonce.
func (x *xaes) derive(nonce []byte) cipher.AEAD {
	var key [keySize]byte
	for i := range 2 {
		half := key[i*aes.BlockSize:][:aes.BlockSize]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], nonce[:nonceSize/2])
		subtle.XORBytes(half, half, x.subkey[:])
		x.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the size is right
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES's blocks are right
	}
	return gcm
}

// seal returns a new nonce and behind it the cipher text with its tag.
func (x *xaes) seal(plain, about []byte) []byte {
	sealed := make([]byte, nonceSize, nonceSize+len(plain)+tagSize)
	_, _ = rand.Read(sealed) // never fails
	return x.derive(sealed).Seal(sealed, sealed[nonceSize/2:nonceSize], plain, about)
}

// open is the reverse of seal. It fails with errDamaged.
func (x *xaes) open(sealed, about []byte) ([]byte, error) {
	if len(sealed) < nonceSize+tagSize {
		return nil, errDamaged
	}
	nonce, text := sealed[:nonceSize], sealed[nonceSize:]
	plain, err := x.derive(nonce).Open(nil, nonce[nonceSize/2:], text, about)
	if err != nil {
		return nil, errDamaged
	}
	return plain, nil
}
