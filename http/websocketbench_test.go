package http

import (
	"context"
	"runtime"
	"testing"

	"github.com/coder/websocket"
)

// BenchmarkWebSocketPost posts a message at a time over one connection.
func BenchmarkWebSocketPost(b *testing.B) {
	for name, binary := range map[string]bool{"JSON": false, "MessagePack": true} {
		b.Run(name, func(b *testing.B) {
			a := newAPI(b, func(*Config) {}).stopWith()
			w := a.dial("/v2", binary)
			kind, frame := websocket.MessageText, []byte(`{"action": "message_post", "headers": {`+oursAndP1+`},
				"body": {"queue_name": "q", "messages": [{"ttl": 300, "body": {"event": "compiled", "job": 17}}]}}`)
			if binary {
				kind, frame = websocket.MessageBinary, appendMessagePack(nil, string(frame))
			}
			b.ReportAllocs()
			for b.Loop() {
				w.sendRaw(kind, frame)
				if _, _, err := w.conn.Read(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIdleWebSockets tells what a connection costs that nobody uses: bytes of heap and
// stacks. What the test itself keeps for each is in it, a buffer of 4 KiB above all.
func BenchmarkIdleWebSockets(b *testing.B) {
	const many = 1000
	a := newAPI(b, func(cfg *Config) { cfg.WebSockets.Max = many }).stopWith()
	for b.Loop() {
		before := inUse()
		for range many {
			a.rawHandshake()
		}
		b.ReportMetric(float64(inUse()-before)/many, "bytes/connection")
		ctx, cancel := context.WithCancel(b.Context())
		cancel()
		_ = a.server.sockets.shutdown(ctx)
		a.server.sockets.closing = false
	}
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
