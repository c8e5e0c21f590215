package http

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"net"
	"strconv"
	"strings"
)

// tooLong announces a body that no message may have.
const tooLong = "Content-Length: 100000000"

func bodyCases() map[string]wireCase {
	length := lengthOf(wireMessage)
	return map[string]wireCase{
		"a proper one":              {posts(wireMessage, length), []int{201}, goesOn, 1},
		"none":                      {posts("", "Content-Length: 0"), []int{400}, goesOn, 0},
		"none announced":            {posts(""), []int{400}, goesOn, 0},
		"shorter":                   {posts(wireMessage, "Content-Length: 100"), []int{400}, waits, 0},
		"shorter, to be deleted":    {asks("DELETE /v2/queues/own HTTP/1.1", "Content-Length: 100") + "{}", []int{400}, waits, 0},
		"shorter, of no use":        {asks("GET /v2/queues/own HTTP/1.1", "Content-Length: 100") + "{}", []int{200}, waits, 0},
		"shorter, for no route":     {asks("POST /v2/none HTTP/1.1", "Content-Length: 100") + "{}", []int{404}, waits, 0},
		"longer":                    {posts(wireMessage+"garbage\r\n\r\n", length), []int{201, 400}, closes, 1},
		"longer by a request":       {posts(wireMessage+asks(getOwn), length), []int{201, 200}, goesOn, 1},
		"longer by an end of line":  {posts(wireMessage+"\r\n", length), []int{201}, goesOn, 1},
		"the same length twice":     {posts(wireMessage, length, length), []int{201}, goesOn, 1},
		"two lengths":               {posts(wireMessage+smuggled, length, "Content-Length: 0"), []int{400}, closes, 0},
		"two lengths in one":        {posts(wireMessage, length+", "+strconv.Itoa(len(wireMessage))), []int{400}, closes, 0},
		"a negative length":         {posts(wireMessage, "Content-Length: -1"), []int{400}, closes, 0},
		"a length with a sign":      {posts(wireMessage, "Content-Length: +32"), []int{400}, closes, 0},
		"a length with a fraction":  {posts(wireMessage, "Content-Length: 32.0"), []int{400}, closes, 0},
		"a length in hexadecimal":   {posts(wireMessage, "Content-Length: 0x20"), []int{400}, closes, 0},
		"an empty length":           {posts(wireMessage, "Content-Length: "), []int{400}, closes, 0},
		"a length with zeros":       {posts(wireMessage, "Content-Length: 00000000032"), []int{201}, goesOn, 1},
		"a length in a fold":        {posts(wireMessage+smuggled, "Content-Length: 32\r\n 0"), []int{400}, closes, 0},
		"a length of 2^63-1":        {posts(wireMessage, "Content-Length: 9223372036854775807"), []int{400}, waits, 0},
		"a length of 2^63":          {posts(wireMessage, "Content-Length: 9223372036854775808"), []int{400}, closes, 0},
		"a length of 2^64":          {posts(wireMessage, "Content-Length: 18446744073709551616"), []int{400}, closes, 0},
		"length and chunks":         {posts(chunk(wireMessage)+"0\r\n\r\n", length, chunked), []int{201}, goesOn, 1},
		"chunks and no length":      {posts("0\r\n\r\n"+asks(getOwn), chunked, "Content-Length: 0"), []int{400, 200}, goesOn, 0},
		"a length over no chunks":   {posts("0\r\n\r\n"+smuggled, chunked, lengthOf("0\r\n\r\n"+smuggled)), []int{400, 201}, goesOn, 1},
		"chunks twice":              {posts("0\r\n\r\n"+smuggled, chunked, chunked), []int{501}, closes, 0},
		"another encoding":          {posts(wireMessage, "Transfer-Encoding: gzip", length), []int{501}, closes, 0},
		"two encodings":             {posts("0\r\n\r\n"+smuggled, "Transfer-Encoding: gzip, chunked"), []int{501}, closes, 0},
		"chunks, identity":          {posts("0\r\n\r\n"+smuggled, "Transfer-Encoding: chunked, identity"), []int{501}, closes, 0},
		"identity":                  {posts(wireMessage, "Transfer-Encoding: identity", length), []int{501}, closes, 0},
		"nearly chunked":            {posts("0\r\n\r\n"+smuggled, "Transfer-Encoding: xchunked", length), []int{501}, closes, 0},
		"chunked with a tab":        {posts(chunk(wireMessage)+"0\r\n\r\n", "Transfer-Encoding:\tchunked"), []int{201}, goesOn, 1},
		"chunked by a control byte": {posts("0\r\n\r\n"+smuggled, "Transfer-Encoding: \x0bchunked", length), []int{400}, closes, 0},
		"chunked in a fold":         {posts(chunk(wireMessage)+"0\r\n\r\n", "Transfer-Encoding:\r\n chunked"), []int{201}, goesOn, 1},
		"a space before the colon":  {posts(wireMessage, "Transfer-Encoding : chunked", length), []int{400}, closes, 0},
		"chunks of HTTP/1.0": {strings.Replace(posts(chunk(wireMessage)+"0\r\n\r\n"+smuggled, chunked, "Connection: keep-alive"), "1.1", "1.0", 1),
			[]int{400, 400}, closes, 0},
	}
}

func hiddenCases() map[string]wireCase {
	length, large := lengthOf(wireMessage), strings.Repeat(" ", 300_000)
	return map[string]wireCase{
		"hidden in a GET":         {asks(getOwn, lengthOf(smuggled)) + smuggled, []int{200}, goesOn, 0},
		"hidden in a large GET":   {asks(getOwn, lengthOf(large+smuggled)) + large + smuggled, []int{200}, closes, 0},
		"hidden in an unknown":    {asks("POST /v2/none HTTP/1.1", lengthOf(large+smuggled)) + large + smuggled, []int{404}, goesOn, 0},
		"hidden in a DELETE":      {asks("DELETE /v2/queues/none HTTP/1.1", lengthOf(smuggled)) + smuggled, []int{204}, goesOn, 0},
		"hidden in an OPTIONS":    {asks("OPTIONS /v2/queues/own HTTP/1.1", lengthOf(smuggled)) + smuggled, []int{200}, goesOn, 0},
		"hidden in what is large": {posts(strings.Repeat(smuggled, 2000), lengthOf(strings.Repeat(smuggled, 2000))), []int{400}, goesOn, 0},
		"hidden in what is huge":  {posts(strings.Repeat(large, 40)+smuggled, lengthOf(strings.Repeat(large, 40)+smuggled)), []int{400}, closes, 0},
		"expected":                {posts(wireMessage, length, "Expect: 100-continue"), []int{100, 201}, goesOn, 1},
		"expected, too large":     {posts(smuggled, tooLong, "Expect: 100-continue"), []int{400}, closes, 0},
		"expected, and refused":   {asks("POST /v2/queues/!/messages HTTP/1.1", lengthOf(smuggled), "Expect: 100-continue") + smuggled, []int{400}, closes, 0},
		"expected, for no route":  {asks("POST /v2/none HTTP/1.1", lengthOf(smuggled), "Expect: 100-continue") + smuggled, []int{404}, closes, 0},
		"expected, of no use":     {asks(getOwn, lengthOf(smuggled), "Expect: 100-continue") + smuggled, []int{200}, closes, 0},
		"expected by HTTP/1.0":    {strings.Replace(posts(wireMessage, length, "Expect: 100-continue"), "1.1", "1.0", 1), []int{201}, closes, 1},
		"expected and not sent":   {posts("", length, "Expect: 100-continue"), []int{100, 400}, waits, 0},
		"gzip":                    {posts(gzipped(wireMessage), lengthOf(gzipped(wireMessage)), "Content-Encoding: gzip"), []int{400}, goesOn, 0},
		"gzip only by name":       {posts(wireMessage, length, "Content-Encoding: gzip"), []int{201}, goesOn, 1},
		"NUL":                     {posts(strings.Repeat("\x00", 32), length), []int{400}, goesOn, 0},
	}
}

func chunkCases() map[string]wireCase {
	bad := func(body string, then after) wireCase { return wireCase{posts(body, chunked), []int{400}, then, 0} }
	last := "0\r\n\r\n"
	return map[string]wireCase{
		"proper":               {posts(chunk(wireMessage)+last, chunked), []int{201}, goesOn, 1},
		"small ones":           {posts(chunk(wireMessage[:1])+chunk(wireMessage[1:30])+chunk(wireMessage[30:])+last, chunked), []int{201}, goesOn, 1},
		"no size":              bad("\r\n"+wireMessage+"\r\n"+last+smuggled, closes),
		"a size of letters":    bad("zz\r\n"+wireMessage+"\r\n"+last+smuggled, closes),
		"a negative size":      bad("-20\r\n"+wireMessage+"\r\n"+last+smuggled, closes),
		"a size with a prefix": bad("0x20\r\n"+wireMessage+"\r\n"+last+smuggled, closes),
		"a size with a space":  bad(" 20\r\n"+wireMessage+"\r\n"+last+smuggled, closes),
		"a huge size":          bad("fffffffffffffffff\r\n"+wireMessage+"\r\n"+last, closes),
		"a size of 2^64-1":     bad("ffffffffffffffff\r\n"+wireMessage+"\r\n"+last, waits),
		"a size too small":     bad("1f\r\n"+wireMessage+"\r\n"+last+smuggled, closes),
		"a size too large":     bad("21\r\n"+wireMessage+"\r\n"+last+smuggled, closes),
		"no end of a chunk":    bad("20\r\n"+wireMessage+last+smuggled, closes),
		"a bare LF":            bad("20\n"+wireMessage+"\n0\n\n"+smuggled, closes),
		"a bare LF at the end": bad("20\r\n"+wireMessage+"\n"+last+smuggled, closes),
		"an extension":         {posts("20;a=b;c=\"d\"\r\n"+wireMessage+"\r\n"+last, chunked), []int{201}, goesOn, 1},
		"a bare LF in one":     bad("20;a\nb\r\n"+wireMessage+"\r\n"+last+smuggled, closes),
		"a long extension":     bad("20;a="+strings.Repeat("a", 100_000)+"\r\n"+wireMessage+"\r\n"+last, closes),
		"many extensions":      bad(strings.Repeat("1;"+strings.Repeat("a", 3000)+"\r\n \r\n", 200)+last, closes),
		"no last one":          bad(chunk(wireMessage), waits),
		"no last end":          bad(chunk(wireMessage)+"0\r\n", waits),
		"half a chunk":         bad("20\r\n"+wireMessage[:10], waits),
		"half, to be deleted":  {asks("DELETE /v2/queues/own HTTP/1.1", chunked) + "20\r\n{", []int{400}, waits, 0},
		"bad, to be deleted":   {asks("DELETE /v2/queues/own HTTP/1.1", chunked) + "zz\r\n" + smuggled, []int{400}, closes, 0},
		"bad, of no use":       {asks(getOwn, chunked) + "zz\r\n" + smuggled, []int{200}, closes, 0},
		"bad, for no route":    {asks("POST /v2/none HTTP/1.1", chunked) + "zz\r\n" + smuggled, []int{404}, closes, 0},
		"a trailer":            {posts(chunk(wireMessage)+"0\r\nX-A: b\r\n\r\n", chunked, "Trailer: X-A"), []int{201}, goesOn, 1},
		"a trailer's project":  {asks("PUT /v2/queues/trailed HTTP/1.1", chunked, "Trailer: Client-ID") + "0\r\nX-Project-Id: " + others + "\r\n\r\n", []int{201}, goesOn, 1},
		"a trailer's length":   {posts(chunk(wireMessage)+"0\r\nContent-Length: 5\r\n\r\n", chunked), []int{201}, goesOn, 1},
		"a forbidden trailer":  {posts(chunk(wireMessage)+last, chunked, "Trailer: Content-Length"), []int{400}, closes, 0},
		"a bad trailer":        bad(chunk(wireMessage)+"0\r\nX A\r\n\r\n"+smuggled, closes),
		"a trailer of NUL":     bad(chunk(wireMessage)+"0\r\nX-A: \x00\r\n\r\n"+smuggled, closes),
		"a long trailer":       bad(chunk(wireMessage)+"0\r\nX-A: "+strings.Repeat("a", 100_000)+"\r\n\r\n", closes),
		"half a trailer":       bad(chunk(wireMessage)+"0\r\nX-A: b\r\n", waits),
		"endless":              bad(strings.Repeat(chunk(strings.Repeat(" ", 100_000)), 100), closes),
	}
}

func pipeCases() map[string]wireCase {
	get := asks(getOwn)
	return map[string]wireCase{
		"many":                  {strings.Repeat(get+posts(wireMessage, lengthOf(wireMessage)), 10), repeated(10, 200, 201), goesOn, 10},
		"one refused":           {get + asks("GET /v2/none HTTP/1.1") + get, []int{200, 404, 200}, goesOn, 0},
		"a bad one":             {get + "GARBAGE\r\n\r\n" + smuggled, []int{200, 400}, closes, 0},
		"a bad header":          {get + asks(getOwn, "X A: b") + smuggled, []int{200, 400}, closes, 0},
		"a bad body":            {get + posts("zz\r\n", chunked) + smuggled, []int{200, 400}, closes, 0},
		"a bad JSON":            {get + posts("zz", "Content-Length: 2") + get, []int{200, 400, 200}, goesOn, 0},
		"a closing one":         {get + asks(getOwn, "Connection: close") + smuggled, []int{200, 200}, closes, 0},
		"HTTP/1.0":              {get + strings.Replace(get, "1.1", "1.0", 1) + smuggled, []int{200, 200}, closes, 0},
		"one that is cut":       {get + posts(wireMessage, "Content-Length: 100"), []int{200, 400}, waits, 0},
		"a head that is cut":    {get + get[:20], []int{200, 400}, waits, 0},
		"behind an upgrade":     {get + asks("GET /v2 HTTP/1.1", "Upgrade: websocket", "Connection: upgrade") + get, []int{200, 400, 200}, goesOn, 0},
		"heads":                 {strings.Repeat(asks("HEAD /v2/queues/own HTTP/1.1"), 3), []int{204, 204, 204}, goesOn, 0},
		"behind an expectation": {posts(wireMessage, lengthOf(wireMessage), "Expect: 100-continue") + get, []int{100, 201, 200}, goesOn, 1},
		"from two projects":     {get + strings.Replace(asks("GET /v2/queues/nobodys HTTP/1.1"), mine, "nobody", 1) + get, []int{200, 200, 200}, goesOn, 0},
	}
}

func repeated(n int, statuses ...int) (all []int) {
	for range n {
		all = append(all, statuses...)
	}
	return all
}

func gzipped(text string) string {
	var out bytes.Buffer
	packing := gzip.NewWriter(&out)
	_, _ = packing.Write([]byte(text))
	_ = packing.Close()
	return out.String()
}

// tlsHello is what a client sends first that takes the server for one of TLS.
func tlsHello() string {
	here, there := net.Pipe()
	go func() {
		_ = tls.Client(here, &tls.Config{ServerName: "x"}).Handshake()
		_ = here.Close()
	}()
	hello := make([]byte, 1<<16)
	n, _ := there.Read(hello)
	_ = there.Close()
	return string(hello[:n])
}
