package encode

import (
	"bytes"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// preferred are the codings in our order. br makes the least of text, zstd comes
// close at several times the speed, and gzip is what everybody knows: size comes
// before speed, as an object is compressed once and sent many times.
var preferred = []string{"br", "zstd", "gzip"}

// A compressor is what the three libraries have in common.
type compressor interface {
	io.WriteCloser
	// Flush puts out all that was written, at the cost of some compression.
	Flush() error
	Reset(w io.Writer)
}

// room is how many octets are asked of the origin at a time.
const room = 32 << 10

// A coder is a compressor with the octets on their way into it and out of it.
// out stays below what one block of the coding takes, a few hundred KiB at most.
type coder struct {
	compressor
	in  [room]byte
	out bytes.Buffer
}

// coders are the codings there are. Idle coders are few, and the garbage
// collector takes them.
var coders = map[string]*sync.Pool{
	"br":   pool(newBrotli),
	"gzip": pool(newGzip),
	"zstd": pool(newZstd),
}

func pool(compressor func() compressor) *sync.Pool {
	return &sync.Pool{New: func() any { return &coder{compressor: compressor()} }}
}

// take returns a coder at the beginning of a body. It goes back by give, or is
// left to the garbage collector.
func take(coding string) *coder {
	c := coders[coding].Get().(*coder)
	c.out.Reset()
	c.Reset(&c.out)
	return c
}

func give(coding string, c *coder) { coders[coding].Put(c) }

// newBrotli: quality 5 with a window of 256 KiB, some 30 MB/s of JSON. It takes 1 MiB for
// a short body, and up to 3.5 MiB for one of several hundred KiB.
func newBrotli() compressor {
	return brotli.NewWriterOptions(nil, brotli.WriterOptions{Quality: 5, LGWin: 18})
}

// newGzip: level 6, some 100 MB/s. It takes 1.1 MiB.
func newGzip() compressor {
	w, err := gzip.NewWriterLevel(nil, 6)
	must(err)
	return w
}

// newZstd: the default level with a window of 512 KiB (a browser knows up to 8 MiB,
// RFC 9659), some 240 MB/s. It takes 1.5 to 2.5 MiB, and has no goroutines.
func newZstd() compressor {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(512<<10))
	must(err)
	return w
}

// must is for options that are constants.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
