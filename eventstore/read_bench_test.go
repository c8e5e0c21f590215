package eventstore

import (
	"testing"
)

// BenchmarkDecode decodes the events that there are most of.
func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct{ eventType, data, body string }{
		{"messages.posted.v1", `{"project":"bench","queue":"bench-0193-0","number":41,"client":"9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4","messages":[{"id":"00000000-0054-8000-8000-000000000007","ttl":3600}]}`, `{"n":"000000000001","text":"a body"}`},
		{"messages.deleted.v1", `{"project":"bench","queue":"bench-0193-0","number":41,"messages":[{"id":"00000000-0054-8000-8000-000000000007","place":88080384,"claim":"00000000-0054-8000-8000-000000000008"}]}`, ""},
	} {
		b.Run(c.eventType, func(b *testing.B) {
			b.ReportAllocs()
			var bodies []string
			if c.body != "" {
				bodies = []string{c.body}
			}
			data := []byte(c.data)
			for b.Loop() {
				if _, err := Decode(c.eventType, data, bodies); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
