package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// served is a server of an echo behind the guard, over TCP.
func served(t *testing.T) *httptest.Server {
	t.Helper()
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprint(w, len(body), err)
	})
	running := httptest.NewServer(guarded(echo, nil))
	t.Cleanup(running.Close)
	return running
}

func TestForeign(t *testing.T) {
	tcp, unix := net.Addr(&net.TCPAddr{}), net.Addr(&net.UnixAddr{Net: "unix"})
	tests := []struct {
		host, origin string
		over         net.Addr
		foreign      bool
	}{
		{"127.0.0.1:3000", "", tcp, false},
		{"127.0.0.1", "", tcp, false},
		{"127.8.9.10:1", "", tcp, false},
		{"localhost:3001", "", tcp, false},
		{"LocalHost", "", tcp, false},
		{"[::1]:3000", "", tcp, false},
		{"[::1]", "", tcp, false},
		{"localhost", "http://localhost:8080", tcp, false},
		{"localhost", "https://127.0.0.1", tcp, false},
		{"localhost", "http://[::1]:80", tcp, false},
		{"example.org", "", unix, false},
		{"", "", unix, false},
		{"x", "http://localhost", unix, false},
		{"", "", tcp, true},
		{"example.org", "", tcp, true},
		{"example.org:3000", "", tcp, true},
		{"localhost.example.org", "", tcp, true},
		{"127.0.0.1.example.org:3000", "", tcp, true},
		{"192.0.2.1:3000", "", tcp, true},
		{"[::]:3000", "", tcp, true},
		{"0.0.0.0", "", tcp, true},
		{"127.0.0.1:3000", "http://example.org", tcp, true},
		{"127.0.0.1:3000", "http://127.0.0.1.example.org", tcp, true},
		{"127.0.0.1:3000", "http://localhost@example.org", tcp, true},
		{"127.0.0.1:3000", "null", tcp, true},
		{"127.0.0.1:3000", "http://%zz", tcp, true},
		{"localhost", "http://example.org", unix, true},
		{"example.org", "", nil, true},
	}
	for _, test := range tests {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = test.host
		if test.origin != "" {
			r.Header.Set("Origin", test.origin)
		}
		if test.over != nil {
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, test.over))
		}
		if reason := foreign(r); (reason != "") != test.foreign {
			t.Errorf("%v: got %q", test, reason)
		}
	}
	two := httptest.NewRequest("GET", "http://localhost/", nil)
	two.Header["Origin"] = []string{"http://localhost", "http://example.org"}
	if foreign(two) == "" {
		t.Error("the second of two origins was not looked at")
	}
}

func TestGuardAnswers(t *testing.T) {
	running := served(t)
	request, _ := http.NewRequest("GET", running.URL, nil)
	request.Host = "example.org"
	answer, err := running.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	want := `{"error":"Host \"example.org\" is not this machine"}` + "\n"
	if answer.StatusCode != http.StatusForbidden || string(body) != want {
		t.Errorf("got %d, %s", answer.StatusCode, body)
	}
}

func TestBodies(t *testing.T) {
	running := served(t)
	for _, test := range []struct{ length, status int }{
		{0, 200}, {1, 200}, {maxBody, 200}, {maxBody + 1, 413}, {10 << 20, 413},
	} {
		for _, method := range []string{"PUT", "POST", "GET"} {
			for _, chunked := range []bool{false, true} {
				for _, expect := range []string{"", "100-continue"} {
					var body io.Reader = strings.NewReader(strings.Repeat("1", test.length))
					if chunked {
						body = io.MultiReader(body) // of no length that is known
					}
					request, _ := http.NewRequest(method, running.URL+"/any/path", body)
					if expect != "" {
						request.Header.Set("Expect", expect)
					}
					answer, err := running.Client().Do(request)
					if err != nil {
						t.Fatalf("%v, %s, chunked %v: %v", test, method, chunked, err)
					}
					said, _ := io.ReadAll(answer.Body)
					answer.Body.Close()
					want := fmt.Sprint(test.length, nil)
					if test.status == 413 {
						want = `{"error":"http: request body too large"}` + "\n"
					}
					if answer.StatusCode != test.status || string(said) != want {
						t.Errorf("%v, %s, chunked %v, expect %q: got %d, %s", test, method,
							chunked, expect, answer.StatusCode, said)
					}
				}
			}
		}
	}
}

func TestBodiesOfJSON(t *testing.T) {
	running := served(t)
	for body, status := range map[string]int{
		"": 200, "{}": 200, ` [1, "x"] ` + "\n": 200, "null": 200,
		"{": 400, "{}{}": 400, "{} x": 400, "x=1": 400, "\x00": 400, "'": 400,
	} {
		answer, err := running.Client().Post(running.URL, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != status {
			t.Errorf("%q: got %d", body, answer.StatusCode)
		}
	}
}

func TestBodyThatEndsEarly(t *testing.T) {
	running := served(t)
	connection, err := net.Dial("tcp", running.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprint(connection, "PUT / HTTP/1.1\r\nHost: localhost\r\n"+
		"Transfer-Encoding: chunked\r\n\r\n5\r\nab!!!nonsense\r\n")
	said := make([]byte, 12)
	if _, err := io.ReadFull(connection, said); err != nil || string(said) != "HTTP/1.1 400" {
		t.Errorf("got %q, %v", said, err)
	}
}
