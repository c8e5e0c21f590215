// Command outside is what is around nabu in the demo: a web server with images, and a
// subscriber that is not well the first two times that it is called.
//
//	go run ./docs/examples/demo/outside FOLDER
//
// It prints its address first, and then a line for each call.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"
)

// failures is how many calls the subscriber answers with an error before it is well.
const failures = 2

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: outside FOLDER")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal("outside: ", err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	log.Fatal("outside: ", http.Serve(listener, outside(os.Args[1])))
}

// outside serves the files of a folder under /images, and is called at /alerts.
func outside(folder string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /images/", http.StripPrefix("/images", http.FileServer(http.Dir(folder))))
	var calls atomic.Int64
	mux.HandleFunc("POST /alerts", func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusNoContent
		if calls.Add(1) <= failures {
			status = http.StatusServiceUnavailable
		}
		fmt.Printf("message %s, attempt %s: answered %d\n",
			r.Header.Get("X-Nabu-Message-Id"), r.Header.Get("X-Nabu-Attempt"), status)
		w.WriteHeader(status)
	})
	return mux
}
