package policy

import (
	"fmt"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is what a node of a check does.
type kind byte

const (
	never kind = iota
	always
	not
	and
	or
	reference  // rule:NAME
	role       // role:NAME
	literal    // 'text':NAME
	credential // a.b.c:NAME
)

// node is a check, or several with an operator between them.
type node struct {
	kind  kind
	parts []*node // of not, and, or
	// text stands behind the colon.
	text    template
	literal string   // of literal: what stands before the colon
	path    []string // of credential: the same
	rule    *Rule    // of reference, once it is linked
}

// all are a node and those below it.
func (n *node) all() iter.Seq[*node] {
	return func(yield func(*node) bool) { n.walk(yield) }
}

func (n *node) walk(yield func(*node) bool) bool {
	if !yield(n) {
		return false
	}
	for _, part := range n.parts {
		if !part.walk(yield) {
			return false
		}
	}
	return true
}

// references are the checks of other rules.
func (n *node) references() iter.Seq[*node] {
	return func(yield func(*node) bool) {
		n.walk(func(n *node) bool { return n.kind != reference || yield(n) })
	}
}

// size counts the checks of a node and how many operators are within one another. Those
// of the rules that it names have been counted before.
func (n *node) size() (steps, depth int) {
	if n.kind == reference {
		return n.rule.steps + 1, n.rule.depth + 1
	}
	steps = 1
	for _, part := range n.parts {
		its, deep := part.size()
		steps, depth = steps+its, max(depth, deep+1)
	}
	return min(steps, maxSteps+1), depth
}

// tokenKind is what a token is to the parser.
type tokenKind byte

const (
	tokenEnd tokenKind = iota
	tokenOpen
	tokenClose
	tokenAnd
	tokenOr
	tokenNot
	tokenCheck
)

var keywords = map[string]tokenKind{"and": tokenAnd, "or": tokenOr, "not": tokenNot}

type token struct {
	kind tokenKind
	text string
	at   int // byte of the check, from 0
}

// tokenise takes a check apart. White space separates; parentheses count where a word
// begins or ends, and are a part of it elsewhere, as in "%(project_id)s".
func tokenise(text string) []token {
	var tokens []token
	at := 0
	for at < len(text) {
		if c, width := utf8.DecodeRuneInString(text[at:]); isSpace(c) {
			at += width
			continue
		}
		word := text[at:]
		if end := strings.IndexFunc(word, isSpace); end >= 0 {
			word = word[:end]
		}
		for strings.HasPrefix(word, "(") {
			tokens = append(tokens, token{tokenOpen, "(", at})
			word, at = word[1:], at+1
		}
		inner := strings.TrimRight(word, ")")
		if keyword, is := keywords[strings.ToLower(inner)]; is {
			tokens = append(tokens, token{keyword, inner, at})
		} else if inner != "" {
			tokens = append(tokens, token{tokenCheck, inner, at})
		}
		for i := len(inner); i < len(word); i++ {
			tokens = append(tokens, token{tokenClose, ")", at + i})
		}
		at += len(word)
	}
	return tokens
}

// isSpace is what Python's regular expressions take for white space.
func isSpace(c rune) bool { return unicode.IsSpace(c) || c >= 0x1c && c <= 0x1f }

// parse reads a check in the string form. Where oslo.policy logs a check that it does
// not understand, and lets nobody in, this is an error.
func parse(text string) (*node, error) {
	if text == "" {
		return &node{kind: always}, nil
	}
	p, err := newParser(text)
	if err != nil {
		return nil, err
	}
	n, err := p.or()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind == tokenClose {
		return nil, p.errorf(t, "there is no parenthesis that this one would close")
	} else if t.kind != tokenEnd {
		return nil, p.errorf(t, `"and" or "or" is missing before %q`, t.text)
	}
	return n, nil
}

// parser reads tokens from left to right; every method reads what it is named after.
type parser struct {
	text   string
	tokens []token
	next   int
	depth  int
}

func newParser(text string) (*parser, error) {
	switch {
	case len(text) > maxCheck:
		return nil, &Error{Reason: fmt.Sprintf("must not be longer than %d bytes", maxCheck)}
	case !utf8.ValidString(text):
		return nil, &Error{Reason: "must be UTF-8"}
	}
	return &parser{text: text, tokens: tokenise(text)}, nil
}

func (p *parser) peek() token {
	if p.next < len(p.tokens) {
		return p.tokens[p.next]
	}
	return token{kind: tokenEnd, at: len(p.text)}
}

// accept reads the next token if it is of the kind.
func (p *parser) accept(kind tokenKind) bool {
	if p.peek().kind != kind {
		return false
	}
	p.next++
	return true
}

func (p *parser) errorf(t token, format string, args ...any) error {
	return &Error{Character: utf8.RuneCountInString(p.text[:t.at]) + 1, Reason: fmt.Sprintf(format, args...)}
}

// or reads checks with "or" between them, and binds them least.
func (p *parser) or() (*node, error) { return p.several(tokenOr, or, p.and) }

func (p *parser) and() (*node, error) { return p.several(tokenAnd, and, p.unary) }

func (p *parser) several(between tokenKind, kind kind, read func() (*node, error)) (*node, error) {
	first, err := read()
	if err != nil || p.peek().kind != between {
		return first, err
	}
	all := &node{kind: kind, parts: []*node{first}}
	for p.accept(between) {
		n, err := read()
		if err != nil {
			return nil, err
		}
		all.parts = append(all.parts, n)
	}
	return all, nil
}

// unary reads "not" and what it is about, a check, or what stands in parentheses.
func (p *parser) unary() (*node, error) {
	t := p.peek()
	if p.depth++; p.depth > maxDepth {
		return nil, p.errorf(t, "there are more than %d parentheses and \"not\" within one another", maxDepth)
	}
	defer func() { p.depth-- }()
	p.next++
	switch t.kind {
	case tokenNot:
		n, err := p.unary()
		return &node{kind: not, parts: []*node{n}}, err
	case tokenOpen:
		n, err := p.or()
		if err == nil && !p.accept(tokenClose) {
			err = p.errorf(p.peek(), "the parenthesis that opens at character %d is not closed here", t.at+1)
		}
		return n, err
	case tokenCheck:
		n, err := parseCheck(t.text)
		if err != nil {
			return nil, p.errorf(t, "%v", err)
		}
		return n, nil
	case tokenEnd:
		return nil, p.errorf(t, "a check is missing at the end")
	}
	return nil, p.errorf(t, "a check is missing before %q", t.text)
}
