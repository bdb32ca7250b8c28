package encode_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"testing"
	"testing/iotest"

	"github.com/larderhq/larder/internal/encode"
)

func withEarly(ctx context.Context, seen func()) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { seen(); return nil }})
}

// sends is an origin that sends body as text, with a length unless negative.
func sends(body io.ReadCloser, length int64) origin {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: fields("Content-Type: text/plain"), ContentLength: length, Body: body}, nil
	}
}

// cuts reads in pieces of any size, none included, at times with the error.
type cuts struct {
	io.Reader
	rng *rand.Rand
}

func (c cuts) Read(p []byte) (int, error) {
	most := min(len(p), []int{1, 10, 5000, 1 << 20}[c.rng.IntN(4)])
	return c.Reader.Read(p[:c.rng.IntN(most+1)])
}

func TestAnyBodyInAnyCutsIsTheSame(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 0))
		body := make([]byte, rng.IntN([]int{1, 300, 70_000, 1_000_000}[rng.IntN(4)]+1))
		for i, kinds := 0, 1+rng.IntN(256); i < len(body); i++ {
			body[i] = byte(rng.IntN(kinds))
		}
		length := int64(len(body))
		if rng.IntN(2) == 0 || length == 0 {
			length = -1
		}
		var upstream io.Reader = cuts{bytes.NewReader(body), rng}
		if rng.IntN(2) == 0 {
			upstream = iotest.DataErrReader(upstream)
		}
		coding := all[rng.IntN(len(all))]
		res := ask(t, sends(io.NopCloser(upstream), length), encode.Options{MinSize: 1}, "GET", "Accept-Encoding: "+coding)
		coded, err := io.ReadAll(cuts{res.Body, rng})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if n, err := res.Body.Read(make([]byte, 9)); n != 0 || err != io.EOF {
			t.Fatalf("seed %d: behind the end are %d octets, %v", seed, n, err)
		}
		r, err := decode(coding, bytes.NewReader(coded))
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, coding, err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, body) {
			t.Fatalf("seed %d: %s: %d octets became %d, %v", seed, coding, len(body), len(got), err)
		}
	}
}

// What has arrived is not held back until more does.
func TestStreamingStaysStreaming(t *testing.T) {
	for _, coding := range all {
		for _, length := range []int64{-1, 40} {
			upstream, w := io.Pipe()
			res := ask(t, sends(upstream, length), encode.Options{MinSize: 1}, "GET", "Accept-Encoding: "+coding)
			// Each is written only after the one before was read.
			next := make(chan string, 1)
			go func() {
				for s := range next {
					io.WriteString(w, s)
				}
				w.Close()
			}()
			next <- "one event\n"
			r, err := decode(coding, res.Body)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 4 {
				got := make([]byte, 10)
				if _, err := io.ReadFull(r, got); err != nil || string(got) != "one event\n" {
					t.Fatalf("%s: event %d is %q, %v", coding, i, got, err)
				}
				if i < 3 {
					next <- "one event\n"
				}
			}
			close(next)
			if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
				t.Errorf("%s: behind the end is %q, %v", coding, rest, err)
			}
		}
	}
}

// A broken body is never a complete one, neither by its error nor to a decoder.
func TestBrokenBodiesStayBroken(t *testing.T) {
	cut := errors.New("cut")
	for _, coding := range all {
		for _, c := range []struct {
			name     string
			upstream io.Reader
			length   int64
			want     error
		}{
			{"error", io.MultiReader(bytes.NewReader([]byte(page)), iotest.ErrReader(cut)), -1, cut},
			{"error with the last octets", iotest.DataErrReader(io.MultiReader(bytes.NewReader([]byte(page)), iotest.ErrReader(cut))), -1, cut},
			{"error at once", iotest.ErrReader(cut), -1, cut},
			{"unexpected end", io.MultiReader(bytes.NewReader([]byte(page)), iotest.ErrReader(io.ErrUnexpectedEOF)), -1, io.ErrUnexpectedEOF},
			{"wrapped end", io.MultiReader(bytes.NewReader([]byte(page)), iotest.ErrReader(fmt.Errorf("lost: %w", io.EOF))), -1, io.EOF},
			{"too short", bytes.NewReader([]byte(page)), int64(len(page)) + 1, io.ErrUnexpectedEOF},
			{"too long", bytes.NewReader([]byte(page)), int64(len(page)) - 1, io.ErrUnexpectedEOF},
		} {
			res := ask(t, sends(io.NopCloser(c.upstream), c.length), encode.Options{}, "GET", "Accept-Encoding: "+coding)
			coded, err := io.ReadAll(res.Body)
			if !errors.Is(err, c.want) || err == io.EOF {
				t.Errorf("%s, %s: the body ends with %v", coding, c.name, err)
			}
			if _, again := res.Body.Read(make([]byte, 1)); again != err && c.name != "wrapped end" {
				t.Errorf("%s, %s: and then with %v", coding, c.name, again)
			}
			r, err := decode(coding, bytes.NewReader(coded))
			if err == nil {
				var got []byte
				if got, err = io.ReadAll(r); c.name != "error at once" && string(got) != page {
					t.Errorf("%s, %s: of what had arrived %d octets remain", coding, c.name, len(got))
				}
			}
			if err == nil && len(coded) > 0 { // zstd takes no octets at all for no content
				t.Errorf("%s, %s: %d octets decode as a complete body", coding, c.name, len(coded))
			}
		}
	}
}

// A noted body notes that it was closed, and is at its end then.
type noted struct {
	io.Reader
	closed chan struct{}
}

func (n noted) Read(p []byte) (int, error) {
	select {
	case <-n.closed:
		return 0, io.EOF
	default:
		return n.Reader.Read(p)
	}
}

func (n noted) Close() error {
	close(n.closed)
	return errors.New("from below")
}

func TestCloseReachesTheOrigin(t *testing.T) {
	for _, octets := range []int{0, 1} {
		upstream := noted{bytes.NewReader([]byte(page)), make(chan struct{})}
		res, err := encode.RoundTripper(sends(upstream, -1), encode.Options{}).RoundTrip(request("GET", "Accept-Encoding: gzip"))
		if err != nil {
			t.Fatal(err)
		}
		io.CopyN(io.Discard, res.Body, int64(octets))
		if err := res.Body.Close(); err == nil || err.Error() != "from below" {
			t.Errorf("Close says %v", err)
		}
		<-upstream.closed
		if n, err := res.Body.Read(make([]byte, 9)); n != 0 || err != http.ErrBodyReadAfterClose {
			t.Errorf("a closed body gives %d octets, %v", n, err)
		}
	}
}

// A waiting body is at its end, without an error, as soon as it is closed.
type waiting struct{ reading, closed chan struct{} }

func (w waiting) Read([]byte) (int, error) {
	close(w.reading)
	<-w.closed
	return 0, io.EOF
}

func (w waiting) Close() error {
	close(w.closed)
	return nil
}

// Close need not wait for a Read, and ends it.
func TestCloseWhileReading(t *testing.T) {
	upstream := waiting{make(chan struct{}), make(chan struct{})}
	res, err := encode.RoundTripper(sends(upstream, -1), encode.Options{}).RoundTrip(request("GET", "Accept-Encoding: gzip"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := io.ReadAll(res.Body)
		ended <- err
	}()
	<-upstream.reading
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != http.ErrBodyReadAfterClose {
		t.Errorf("the Read ends with %v", err)
	}
}

// document is 64 KiB of JSON as an API has it.
func document() []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for i := 0; b.Len() < 64<<10; i++ {
		fmt.Fprintf(&b, `{"id":%d,"name":"user %x","email":"u%d@example.org","active":%t,"score":%.3f,"tags":["a%d","b%d"]},`,
			i, rng.Uint64(), rng.IntN(1e6), rng.IntN(2) == 0, rng.Float64()*100, rng.IntN(50), rng.IntN(9))
	}
	return b.Bytes()[:64<<10]
}

func BenchmarkBody(b *testing.B) {
	doc := document()
	for _, coding := range all {
		b.Run(coding, func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			var n int64
			for b.Loop() {
				layer := encode.RoundTripper(sends(io.NopCloser(bytes.NewReader(doc)), int64(len(doc))), encode.Options{})
				res, err := layer.RoundTrip(request("GET", "Accept-Encoding: "+coding))
				if err != nil {
					b.Fatal(err)
				}
				n, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			b.ReportMetric(float64(len(doc))/float64(n), "ratio")
		})
	}
}
