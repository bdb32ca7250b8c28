package simulate

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"slices"
	"strconv"
)

// Format is a form of logs and traces.
type Format string

const (
	// Auto tells the form of each file by its content.
	Auto Format = ""
	// Combined is the Common or the Combined Log Format of Apache and nginx,
	// with or without the virtual host in front.
	Combined Format = "combined"
	// JSON is an object a line: Larder's log, or another's.
	JSON Format = "json"
	// Text is Larder's log for people. It has sizes to three digits, and no
	// hosts.
	Text Format = "text"
	// U32x3 is records of three little-endian 32-bit numbers: a time, which is
	// ignored, an object, and its size, where 0 is unknown.
	U32x3 Format = "u32x3"
)

// Formats are all but Auto.
func Formats() []Format { return []Format{Combined, JSON, Text, U32x3} }

const (
	// defaultUnknownSize is near the median of the web.
	defaultUnknownSize = 10 << 10
	// maxLine is the longest line that is read, in octets.
	maxLine = 64 << 10
	// maxSize is the largest size that is believed, in octets.
	maxSize = 1 << 50
	// progressEvery is how many lines or records pass between two reports.
	progressEvery = 1 << 16
)

// Options say how to read. The zero value is good.
type Options struct {
	// Format is the form of all files; Auto asks each for its own.
	Format Format
	// Fields are further names of fields in JSON, asked for first.
	Fields Fields
	// UnknownSize is the size of objects for which none is known, in octets.
	// Zero or less means 10 KiB.
	UnknownSize int64
	// Progress is told now and then how many requests were read. Nil: nobody
	// is.
	Progress func(requests int64)
}

// Reading is what became of the lines or records that were read.
type Reading struct {
	// Lines is how many there were.
	Lines int64
	// Requests is how many count: GET or HEAD, with a status that may be kept.
	Requests int64
	// OtherMethod, OtherStatus and Passed do not count: another method,
	// another status, and, in Larder's own log, what did not concern the cache
	// or had no answer.
	OtherMethod, OtherStatus, Passed int64
	// Lost is how many lines a log says are missing.
	Lost int64
	// Bad is how many could not be read, and FirstBad says where the first
	// stands and why.
	Bad      int64
	FirstBad string
	// Forms are the forms that were met, each once.
	Forms []Format
	// UnknownSizes is the number of objects for which no size was known.
	UnknownSizes int64
}

// A Reader turns logs into one Trace: call Add for each, in the order of their
// time, then Trace. It needs about 50 octets for each different object, and 4
// for each request. It is for one goroutine. Make one with NewReader.
type Reader struct {
	opts    Options
	names   names
	seed    maphash.Seed
	objects map[uint64]uint32 // by hash of the name, which is taken for the name
	trace   Trace
	reading Reading
}

// unknown is the size of an object as long as none was seen.
const unknown = -1

// NewReader returns a Reader that has read nothing.
func NewReader(opts Options) *Reader {
	if opts.UnknownSize <= 0 {
		opts.UnknownSize = defaultUnknownSize
	}
	return &Reader{
		opts:    opts,
		names:   opts.Fields.names(),
		seed:    maphash.MakeSeed(),
		objects: map[uint64]uint32{},
	}
}

// Add reads a file to its end; name is what messages call it. What is packed
// with gzip is unpacked. An error is that of r, or says that nothing of it can
// be read; what was read before counts.
func (b *Reader) Add(name string, r io.Reader) error {
	in, err := unpack(r)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	form := b.opts.Format
	if form == Auto {
		if form, err = detect(in); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if !slices.Contains(b.reading.Forms, form) {
		b.reading.Forms = append(b.reading.Forms, form)
	}
	lines, bad, first := b.reading.Lines, b.reading.Bad, b.reading.FirstBad
	b.reading.FirstBad = ""
	if form == U32x3 {
		err = b.records(name, in)
	} else {
		err = b.lines(name, in, b.parser(form))
	}
	said := b.reading.FirstBad
	if first != "" {
		b.reading.FirstBad = first
	}
	switch lines, bad = b.reading.Lines-lines, b.reading.Bad-bad; {
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case lines == 0:
		return fmt.Errorf("%s: it is empty", name)
	case lines == bad:
		return fmt.Errorf("%s: nothing of it can be read as %s, from the first on (%s): name another form with --format", name, form, said)
	}
	return nil
}

// unpack returns the text of r, whether it is packed or not.
func unpack(r io.Reader) (*bufio.Reader, error) {
	in := bufio.NewReaderSize(r, maxLine)
	head, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for magic, name := range map[string]string{"\x28\xb5\x2f\xfd": "zstd", "\xfd7zXZ\x00": "xz", "BZh": "bzip2"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return nil, fmt.Errorf("it is packed with %s: unpack it, as in %s -dc FILE | larder simulate -", name, name)
		}
	}
	if !bytes.HasPrefix(head, []byte{0x1f, 0x8b}) {
		return in, nil
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("it begins like gzip and is none: %w", err)
	}
	return bufio.NewReaderSize(z, maxLine), nil
}

// detect tells the form by what stands at the beginning.
func detect(in *bufio.Reader) (Format, error) {
	head, err := in.Peek(4 << 10)
	if len(head) == 0 {
		if err == nil || errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return Auto, err
	}
	if bytes.IndexByte(head, 0) >= 0 { // numbers have zeros, logs have none
		return U32x3, nil
	}
	for line := range bytes.Lines(head) {
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0:
			continue
		case line[0] == '{':
			return JSON, nil
		case isClock(line):
			return Text, nil
		case bytes.ContainsRune(line, '[') && bytes.ContainsRune(line, '"'):
			return Combined, nil
		}
	}
	return Auto, errors.New("it looks like no log that is known here: name its form with --format (combined, json, text or u32x3)")
}

func (b *Reader) parser(form Format) func([]byte, *record) error {
	switch form {
	case JSON:
		return b.names.parse
	case Text:
		return parseText
	}
	return parseCombined
}

// lines reads a log.
func (b *Reader) lines(name string, in *bufio.Reader, parse func([]byte, *record) error) error {
	for n := int64(1); ; n++ {
		line, long, err := nextLine(in)
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			b.bad(name, n, errCut)
			return nil
		case err != nil && !errors.Is(err, io.EOF):
			return err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 && !long {
			continue
		}
		var r record
		if long {
			b.bad(name, n, fmt.Errorf("it has more than %d octets", maxLine))
		} else if err := parse(line, &r); err != nil {
			b.bad(name, n, err)
		} else {
			b.take(&r)
		}
		b.count()
	}
}

var errCut = errors.New("the file ends in the middle: it is damaged, or is still being written")

// nextLine returns the next line, which is valid until the next call, and
// whether it is longer than maxLine; the rest of it is gone then.
func nextLine(in *bufio.Reader) (line []byte, long bool, err error) {
	line, err = in.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		long = true
		line, err = in.ReadSlice('\n')
	}
	if long && errors.Is(err, io.EOF) {
		err = nil // there was a line; the end comes again
	}
	return line, long, err
}

// records reads U32x3.
func (b *Reader) records(name string, in *bufio.Reader) error {
	for n := int64(1); ; n++ {
		var rec [12]byte
		_, err := io.ReadFull(in, rec[:])
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			b.bad(name, n, errCut)
			return nil
		case err != nil:
			return err
		}
		size := int64(binary.LittleEndian.Uint32(rec[8:]))
		if size == 0 {
			size = unknown
		}
		b.reading.Lines++
		b.request(uint64(binary.LittleEndian.Uint32(rec[4:])), size)
		b.count()
	}
}

func (b *Reader) count() {
	if b.opts.Progress != nil && b.reading.Lines%progressEvery == 0 {
		b.opts.Progress(b.reading.Requests)
	}
}

func (b *Reader) bad(name string, n int64, why error) {
	b.reading.Lines++
	b.reading.Bad++
	if b.reading.FirstBad == "" {
		b.reading.FirstBad = name + ":" + strconv.FormatInt(n, 10) + ": " + why.Error()
	}
}

// take counts what a line of a log says.
func (b *Reader) take(r *record) {
	b.reading.Lines++
	switch {
	case r.lost > 0:
		b.reading.Lost += r.lost
		return
	case string(r.method) != "GET" && string(r.method) != "HEAD":
		b.reading.OtherMethod++
		return
	case r.passed:
		b.reading.Passed++
		return
	case !mayBeKept(r.status):
		b.reading.OtherStatus++
		return
	}
	size := r.octets
	if string(r.method) == "HEAD" || r.status == 304 {
		size = unknown // no body, of whatever size
	}
	var h maphash.Hash
	h.SetSeed(b.seed)
	h.Write(r.host)
	h.WriteByte(0)
	h.Write(r.target)
	b.request(h.Sum64(), size)
}

// mayBeKept tells the statuses that are kept without being told to (RFC 9110
// §15.1), and 304, which says that another has it.
func mayBeKept(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 304, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// request notes a request. An object is as large as the largest body that was
// sent of it: smaller ones were parts, or were cut off.
func (b *Reader) request(id uint64, size int64) {
	o, seen := b.objects[id]
	if !seen {
		if len(b.trace.sizes) >= math.MaxUint32 {
			return // more objects than can be numbered
		}
		o = uint32(len(b.trace.sizes))
		b.objects[id] = o
		b.trace.sizes = append(b.trace.sizes, unknown)
	}
	b.trace.sizes[o] = max(b.trace.sizes[o], min(size, maxSize))
	b.trace.requests = append(b.trace.requests, o)
	b.reading.Requests++
}

// Trace returns what was read, and what became of it. It is an error if no
// request counts. The Reader is of no use any more.
func (b *Reader) Trace() (*Trace, Reading, error) {
	b.objects = nil
	if b.reading.Requests == 0 {
		r := b.reading
		return nil, r, fmt.Errorf("there is no request that a cache could answer: of %d lines %d have another method than GET or HEAD, %d a status that is not kept, %d passed the cache by, %d cannot be read",
			r.Lines, r.OtherMethod, r.OtherStatus, r.Passed, r.Bad)
	}
	for o, size := range b.trace.sizes {
		if size == unknown {
			b.trace.sizes[o] = b.opts.UnknownSize
			b.reading.UnknownSizes++
		}
	}
	return &b.trace, b.reading, nil
}
