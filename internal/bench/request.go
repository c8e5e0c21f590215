package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// requestText is a request of a client as it stands on the wire.
func requestText(method, path, client, body string) []byte {
	head := method + " " + path + requestHeader(client)
	if body != "" {
		head += "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	return []byte(head + "\r\n" + body)
}

// requestHeader is what stands between a request's path and what its body needs.
func requestHeader(client string) string {
	return " HTTP/1.1\r\nHost: nabu\r\nClient-ID: " + client + "\r\nX-Project-ID: " + project + "\r\n"
}

func getRequest(path string) []byte { return requestText("GET", path, reader, "") }

// get reads a JSON document.
func get(c *conn, path string, into any) error {
	r, err := c.do(getRequest(path))
	if err := wanted(r, err, "GET "+path, http.StatusOK); err != nil {
		return err
	}
	if err := json.Unmarshal(r.body, into); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// ask makes a single request that should be answered with a status.
func ask(address, method, path, body string, status int) error {
	c := newConn(address, requestTimeout)
	defer c.close()
	r, err := c.do(requestText(method, path, sender, body))
	return wanted(r, err, method+" "+path, status)
}
