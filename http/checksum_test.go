package http

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestChecksum(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"event":   "a"}`: "MD5:e4db62ac1fe774afdcf38f2ef1a78efd",
		`"str"`:            "MD5:767e2d7912ebefdfe18495ed53635fc8",
		`[1,2]`:            "MD5:04cd0e0151f352e7fd414d694a604136",
		`null`:             "",
	} {
		if got := checksum(body); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	// What Python's json.dumps(json.loads(...)) makes of it.
	for body, want := range map[string]string{
		`{"b" : 1,"a":{ },"b":[ ]}`:             `{"b": [], "a": {}}`,
		`"é\u00e9\/\u001f\n\"\\` + "\x7f" + `"`: `"\u00e9\u00e9/\u001f\n\"\\\u007f"`,
		`["\ud83d\ude00", "😀", "\ud800"]`:       `["\ud83d\ude00", "\ud83d\ude00", "\ud800"]`,
		`[1.50, 1e3, 1E400, -0.0, -0, 1e16, 123456789012345680.0, 0.00001, 1.5e-7, 100000000000000.5]`: `[1.5, 1000.0, Infinity, -0.0, 0, 1e+16, 1.2345678901234568e+17, 1e-05, 1.5e-07, 100000000000000.5]`,
		`[true,false,null]`: `[true, false, null]`,
		strings.Repeat(`{"a":[1],"a":`, 9900) + "2" + strings.Repeat("}", 9900): strings.Repeat(`{"a": `, 9900) + "2" + strings.Repeat("}", 9900),
	} {
		if got := string(appendPython(nil, body)); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	a := newAPI(t, func(c *Config) { c.Checksums = true })
	id := a.post("q", ours, `[{"body": {"event": "a"}}, {"body": null}]`)[0]
	a.call("GET", "/v2/queues/q/messages/"+id, ``, 200).is(`{"id": "` + id + `", "href": "/v2/queues/q/messages/` + id + `",
		"ttl": 3600, "age": 0, "body": {"event": "a"}, "checksum": "MD5:e4db62ac1fe774afdcf38f2ef1a78efd"}`)
}

// Values of any shape are written as a model has them, which takes them apart by encoding/json.
func TestAppendPythonAgainstAModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := drawJSON(t, 4)
		for range rapid.IntRange(0, 30).Draw(t, "wraps") {
			value = rapid.SampledFrom([]func(string) string{
				func(value string) string { return "[" + value + "]" },
				func(value string) string { return `[[1], ` + value + `, {"a": 2}]` },
				func(value string) string { return `{"a": ` + value + `, "b": 3, "a": [{"a": 4}]}` },
				func(value string) string { return `{"a": {"a": [5]}, "b": {}, "\u0061" : ` + value + `}` },
			}).Draw(t, "wrap")(value)
		}
		if diff := cmp.Diff(modelOfPython(json.NewDecoder(strings.NewReader(value))), string(appendPython(nil, value))); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", value, diff)
		}
	})
}

// modelOfPython is what Python makes of the next value.
func modelOfPython(dec *json.Decoder) string {
	dec.UseNumber()
	token, _ := dec.Token() // it is valid
	switch token := token.(type) {
	case json.Delim:
		var parts []string
		at := map[string]int{}
		for dec.More() {
			if token == '[' {
				parts = append(parts, modelOfPython(dec))
				continue
			}
			name := modelOfPython(dec)
			if _, repeated := at[name]; !repeated {
				at[name] = len(parts)
				parts = append(parts, "")
			}
			parts[at[name]] = name + ": " + modelOfPython(dec)
		}
		end, _ := dec.Token()
		return fmt.Sprint(token, strings.Join(parts, ", "), end)
	case json.Number:
		return modelOfNumber(token.String())
	case string:
		return modelOfText(token)
	case nil:
		return "null"
	}
	return fmt.Sprint(token)
}

// modelOfNumber lays a float out by the digits and the exponent that it takes to tell it.
func modelOfNumber(number string) string {
	f, _ := strconv.ParseFloat(number, 64)
	switch {
	case !strings.ContainsAny(number, ".eE"):
		return map[bool]string{true: "0", false: number}[number == "-0"]
	case math.IsInf(f, 0):
		return map[bool]string{true: "-Infinity", false: "Infinity"}[f < 0]
	}
	short := strconv.FormatFloat(f, 'e', -1, 64)
	_, exponent, _ := strings.Cut(short, "e")
	if n, _ := strconv.Atoi(exponent); n < -4 || n >= 16 {
		return short
	}
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	if strings.Contains(plain, ".") {
		return plain
	}
	return plain + ".0"
}

func modelOfText(text string) string {
	var out strings.Builder
	for _, unit := range utf16.Encode([]rune(text)) {
		switch i := strings.IndexRune("\"\\\n\r\t\b\f", rune(unit)); {
		case i >= 0:
			out.WriteString(`\` + `"\nrtbf`[i:i+1])
		case unit < 0x20 || unit > 0x7e:
			fmt.Fprintf(&out, `\u%04x`, unit)
		default:
			out.WriteByte(byte(unit))
		}
	}
	return `"` + out.String() + `"`
}

// drawJSON draws a JSON value with spaces, escapes and names that come again.
func drawJSON(t *rapid.T, depth int) string {
	space := func() string { return rapid.SampledFrom([]string{"", "", "", " ", "\n\t", "\r "}).Draw(t, "space") }
	text := func(most int) string {
		return `"` + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{
			`a`, `\u0061`, `\"`, `\\`, `\/`, `\b\f\n\r\t`, `é`, `\u00E9`, `😀`, `\ud83d\ude00`, `\u0000`, "\x7f", `[`, `}`, `, `, `:`,
		}), 0, most).Draw(t, "text"), "") + `"`
	}
	kinds := []string{"text", "number", "float", "word", "list", "object"}
	if depth == 0 {
		kinds = kinds[:4]
	}
	var items []string
	kind := rapid.SampledFrom(kinds).Draw(t, "kind")
	if kind == "list" || kind == "object" {
		for range rapid.IntRange(0, 4).Draw(t, "items") {
			item := drawJSON(t, depth-1)
			if kind == "object" {
				item = space() + text(1) + space() + ":" + item
			}
			items = append(items, item)
		}
	}
	value := map[string]func() string{
		"text": func() string { return text(5) },
		"number": func() string {
			return rapid.SampledFrom([]string{"0", "-0", "7", "-12", "1e3", "1E-7", "-0.0", "2.50", "1E400", "-1e400", "1e16"}).Draw(t, "number")
		},
		"float":  func() string { return strconv.FormatFloat(rapid.Float64().Draw(t, "float"), 'e', -1, 64) },
		"word":   func() string { return rapid.SampledFrom([]string{"true", "false", "null"}).Draw(t, "word") },
		"list":   func() string { return "[" + strings.Join(items, ",") + space() + "]" },
		"object": func() string { return "{" + strings.Join(items, ",") + space() + "}" },
	}[kind]()
	return space() + value + space()
}

// TestWhatIsGonePastIsNotRead: a layout knows where a value ends whatever is in it, be it nonsense
// by now.
func TestWhatIsGonePastIsNotRead(t *testing.T) {
	t.Parallel()
	const inside = `"b": ["c", {}], "]": {}`
	object := `{"a": {` + inside + `} , "d": [[ ]], "f": 1}`
	list := `[{` + inside + `} , [[ ]], 1]`
	nonsense := strings.NewReplacer(inside, strings.Repeat("[", len(inside)), "[[ ]]", "[{{{]")
	l := layoutOf(object)
	l.text = nonsense.Replace(object)
	var got []string
	for name, value := range l.members(0) {
		got = append(got, name+": "+l.of(value))
	}
	l = layoutOf(list)
	l.text = nonsense.Replace(list)
	for value := range l.elements(0) {
		got = append(got, l.of(value))
	}
	its := "{" + strings.Repeat("[", len(inside)) + "}"
	if diff := cmp.Diff([]string{`"a": ` + its, `"d": [{{{]`, `"f": 1`, its, `[{{{]`, `1`}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func BenchmarkChecksum(b *testing.B) {
	benchmarkBodies(b, func(body string) { checksum(body) })
}

func BenchmarkAppendSorted(b *testing.B) {
	benchmarkBodies(b, func(body string) { appendSorted(nil, body) })
}

// benchmarkBodies measures what is done with bodies as large and as deep as they may be.
func benchmarkBodies(b *testing.B, do func(body string)) {
	b.Helper()
	const size, depth = 260_000, 9_900
	nested := func(begin, end string) string {
		items := (size - depth*len(begin+end)) / len("1,")
		return strings.Repeat(begin, depth) + "[" + strings.Repeat("1,", items) + "1]" + strings.Repeat(end, depth)
	}
	for name, body := range map[string]string{
		"small":         `{"event": "compiled", "at": [1, 2.5], "text": "` + strings.Repeat("x", 200) + `"}`,
		"flat":          "[" + strings.Repeat("1,", size/len("1,")) + "1]",
		"wide":          "[" + strings.Repeat(`{"a":1},`, size/len(`{"a":1},`)) + "1]",
		"deep lists":    nested("[", "]"),
		"deep objects":  nested(`{"a":`, "}"),
		"repeated keys": nested(`{"a":[1],"a":`, "}"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				do(body)
			}
		})
	}
}
