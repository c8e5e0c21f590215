// Package signedurl signs and verifies what a bearer may do without a token, in the form
// of OpenStack's Messaging service: a signature that was made there holds here, if both
// have the same key, and the reverse. It knows no clock, no database and no server.
package signedurl

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The headers that a bearer sends, in the form in which net/http keeps them.
const (
	HeaderSignature = "Url-Signature"
	HeaderExpires   = "Url-Expires"
	HeaderMethods   = "Url-Methods"
	HeaderPaths     = "Url-Paths"
	HeaderProject   = "X-Project-Id"
)

// Grant is what a signature allows its bearer: certain methods on certain paths of one
// project, until it expires. The order inside the lists does not matter.
type Grant struct {
	Paths   []string // each with all that is below it
	Methods []string
	Project string
	Expires time.Time // whole seconds count
}

// Key signs and verifies.
type Key []byte

// Sign is the signature of a grant: 64 hexadecimal digits in lower case.
func (k Key) Sign(g Grant) string {
	return hex.EncodeToString(k.sum(g.text()))
}

// Verify tells whether a text is the signature of a grant. It takes the same time
// wherever the two differ. A key that is empty verifies nothing.
func (k Key) Verify(g Grant, signature string) bool {
	return len(k) > 0 && g.plain() && subtle.ConstantTimeCompare([]byte(k.Sign(g)), []byte(signature)) == 1
}

// Derive makes another key out of this one, which says nothing about this one or about
// those for other purposes.
func (k Key) Derive(purpose string) Key { return k.sum(purpose) }

func (k Key) sum(text string) []byte {
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// separator stands between the parts of what is signed: the two characters, no newline.
// That is odd, and every signature relies on it.
const separator = `\n`

// text is what is signed.
func (g Grant) text() string {
	return strings.Join([]string{
		sorted(g.Paths), sorted(g.Methods), g.Project, FormatExpires(g.Expires),
	}, separator)
}

func sorted(items []string) string { return strings.Join(slices.Sorted(slices.Values(items)), ",") }

// plain tells whether what is signed can be taken apart in one way only. Otherwise a
// part of a method's name could pass for a project.
func (g Grant) plain() bool {
	for _, item := range slices.Concat(g.Paths, g.Methods) {
		if strings.Contains(item, separator) {
			return false
		}
	}
	return true
}

// Allows tells whether a request is among those that the grant is for. A path is the one
// of the API itself, without any prefix, and as it was sent.
func (g Grant) Allows(method, path string) bool {
	return slices.Contains(g.Methods, method) && slices.ContainsFunc(g.Paths, func(its string) bool {
		below, found := strings.CutPrefix(path, its)
		return found && its != "" && (below == "" || below[0] == '/')
	})
}

// FromHeaders reads what a bearer shows. Without a signature there is no grant. It fails,
// as not ok, when the headers cannot be those of any signature.
func FromHeaders(h http.Header) (g Grant, signature string, ok bool) {
	if signature = h.Get(HeaderSignature); signature == "" {
		return Grant{}, "", false
	}
	g.Methods, g.Paths, g.Project = list(h[HeaderMethods]), list(h[HeaderPaths]), h.Get(HeaderProject)
	g.Expires, ok = ParseExpires(h.Get(HeaderExpires))
	return g, signature, ok
}

// list reads a list with commas, which may be spread over several headers.
func list(headers []string) []string {
	if len(headers) == 0 {
		return nil
	}
	return strings.Split(strings.Join(headers, ","), ",")
}

// Digest names a signature without giving it away: 64 hexadecimal digits.
func Digest(signature string) string {
	sum := sha256.Sum256([]byte(signature))
	return hex.EncodeToString(sum[:])
}
