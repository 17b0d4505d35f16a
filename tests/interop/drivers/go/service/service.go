// Package service is what the Go drivers share: JSON lines in, JSON lines out, and names that lead to this machine.
// The protocol of the lines is told in service.py.
package service

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// At is the endpoint, addressing, signature, credentials and bucket of a request.
type At struct {
	Endpoint, Addressing, Signature, Region, Bucket, ID, Secret, Token string
}

// Request is one line. What a verb is not told is empty; bytes travel as base64, as encoding/json writes them.
type Request struct {
	Do                       string
	At                       At
	Key                      string
	Data                     []byte
	Pieces                   [][]byte
	Position, Offset, Length int64
	InitCRC                  *uint64 `json:"init_crc"`
	First, Last              *int64
	Standard                 bool
	Prefix, Delimiter, After string
	Limit                    *int
	Seconds                  int64
}

// Range is the value of the header that asks for the range, without its unit; empty where none is asked for.
func (request Request) Range() string {
	if request.First == nil && request.Last == nil {
		return ""
	}
	return digits(request.First) + "-" + digits(request.Last)
}

// PageSize is how many names a list may hold.
func (request Request) PageSize() int {
	if request.Limit == nil {
		return 100
	}
	return *request.Limit
}

func digits(number *int64) string {
	if number == nil {
		return ""
	}
	return strconv.FormatInt(*number, 10)
}

// Facts is what is told of an answer.
type Facts map[string]any

// Verb is one thing that a driver can be told to do.
type Verb func(Request) (Facts, error)

// Serve answers every line of standard input. Explain makes facts of an error of the SDK, nil of any other.
func Serve(verbs map[string]Verb, explain func(error) Facts) {
	lines := bufio.NewReader(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		orDie(err)
		var request Request
		orDie(json.Unmarshal(line, &request))
		orDie(answers.Encode(answer(verbs, request, explain)))
	}
}

func answer(verbs map[string]Verb, request Request, explain func(error) Facts) Facts {
	verb, known := verbs[request.Do]
	if !known {
		return Facts{"error": "UnknownVerb", "message": request.Do}
	}
	facts, err := verb(request)
	if err == nil {
		return facts
	}
	if refusal := explain(err); refusal != nil {
		return refusal
	}
	return Facts{"error": fmt.Sprintf("%T", err), "message": err.Error()}
}

func orDie(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Witness carries requests, and knows the answer that came last.
type Witness struct {
	transport *http.Transport
	Last      *http.Response
}

// NewWitness resolves the names of the tests here: virtual-hosted addresses need names, and no name server is asked.
func NewWitness() *Witness {
	dialer := &net.Dialer{}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err == nil && strings.HasSuffix(host, ".example") {
			address = net.JoinHostPort("127.0.0.1", port)
		}
		return dialer.DialContext(ctx, network, address)
	}
	return &Witness{transport: &http.Transport{DialContext: dial}}
}

// RoundTrip implements http.RoundTripper.
func (witness *Witness) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := witness.transport.RoundTrip(request)
	witness.Last = answer
	return answer, err
}

// Header is a header of an answer as a fact: nil where it is missing.
func Header(headers http.Header, name string) any {
	if value := headers.Get(name); value != "" {
		return value
	}
	return nil
}

// Number is a header that holds a number; nil where it is missing.
func Number(headers http.Header, name string) any {
	if value, err := strconv.ParseUint(headers.Get(name), 10, 64); err == nil {
		return value
	}
	return nil
}

// ETag is the one of the answer without its quotes; nil where it is missing.
func ETag(headers http.Header) any {
	if value := headers.Get("ETag"); value != "" {
		return strings.Trim(value, `"`)
	}
	return nil
}

// Page makes facts of one page of a list.
func Page(rows [][]any, prefixes []string, isTruncated bool, next string) Facts {
	facts := Facts{"rows": rows, "prefixes": prefixes, "next": nil}
	if isTruncated {
		facts["next"] = next
	}
	if rows == nil {
		facts["rows"] = [][]any{}
	}
	if prefixes == nil {
		facts["prefixes"] = []string{}
	}
	return facts
}
