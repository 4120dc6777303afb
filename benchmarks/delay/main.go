// A forwarder that makes a link longer: every byte takes half a round trip in each direction, and a new connection one more round
// trip, as the TCP handshake would take. It does not make the link narrower.
//
// usage: delay ROUND_TRIP_MILLISECONDS LISTEN=TARGET...
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

type piece struct {
	data []byte
	due  time.Time
}

func pipe(from, to net.Conn, delay, first time.Duration) {
	pieces := make(chan piece, 4096)
	go func() {
		defer close(pieces)
		wait := delay + first
		for {
			buffer := make([]byte, 64*1024)
			n, err := from.Read(buffer)
			if n > 0 {
				pieces <- piece{buffer[:n], time.Now().Add(wait)}
				if first > 0 {
					// Later bytes only travel; order keeps what follows at once behind the first.
					wait = delay
					first = 0
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	io.Copy(io.Discard, from)
}

func main() {
	milliseconds, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	trip := time.Duration(milliseconds) * time.Millisecond
	for _, pair := range os.Args[2:] {
		listen, target, _ := strings.Cut(pair, "=")
		listening, err := net.Listen("tcp", listen)
		if err != nil {
			panic(err)
		}
		go func() {
			for {
				client, err := listening.Accept()
				if err != nil {
					return
				}
				go func() {
					server, err := net.Dial("tcp", target)
					if err != nil {
						client.Close()
						return
					}
					done := make(chan struct{})
					go func() { pipe(client, server, trip/2, trip); close(done) }()
					pipe(server, client, trip/2, 0)
					<-done
					client.Close()
					server.Close()
				}()
			}
		}()
	}
	fmt.Println("up")
	select {}
}
