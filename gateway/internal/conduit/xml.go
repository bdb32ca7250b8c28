package conduit

import (
	"bufio"
	"encoding/xml"
	"errors"
	"io"
)

// Bounds of a Document.
const (
	maxDepth = 32
	maxChild = 64 << 10 // octets from a child of the root to the next
)

// ErrLarge is for a document that is longer or deeper than any that is right.
var ErrLarge = errors.New("the document is longer or deeper than any that is right")

// A Document is a decoder of XML that a stranger sends. It takes little memory whatever
// comes: it fails with ErrLarge at elements deeper than 32, and where a child
// of the root, or what is between two, is longer than 64 KiB. encoding/xml knows no
// entities but the five of XML, so that no document makes it read anything else or grow.
type Document struct {
	*xml.Decoder

	raw   *xml.Decoder
	r     *bufio.Reader
	all   int // octets that may come
	child int // until the next child of the root
	depth int
	err   error
}

// NewDocument returns a decoder of r, of which at most size octets are read.
func NewDocument(r io.Reader, size int) *Document {
	d := &Document{r: bufio.NewReader(r), all: size, child: maxChild}
	d.raw = xml.NewDecoder(octets{d})
	d.Decoder = xml.NewTokenDecoder(tokens{d})
	return d
}

// Failed is why not all came: an error of the reader, or ErrLarge. It is nil if what
// came is wrong by itself.
func (d *Document) Failed() error { return d.err }

// octets are what raw reads, one by one, so that it is never ahead of its token.
type octets struct{ d *Document }

func (o octets) ReadByte() (byte, error) {
	d := o.d
	if d.all == 0 || d.child == 0 {
		d.err = ErrLarge
	}
	if d.err != nil {
		return 0, d.err
	}
	d.all--
	d.child--
	c, err := d.r.ReadByte()
	if err != nil && !errors.Is(err, io.EOF) {
		d.err = err
	}
	return c, err
}

// Read is not used where there is ReadByte.
func (o octets) Read(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if p[n], err = o.ReadByte(); err == nil {
			n++
		}
	}
	return n, err
}

// tokens are those of raw, counted.
type tokens struct{ d *Document }

func (t tokens) Token() (xml.Token, error) {
	d := t.d
	token, err := d.raw.RawToken()
	switch token.(type) {
	case xml.StartElement:
		d.depth++
		switch {
		case d.depth == 2:
			d.child = maxChild
		case d.depth > maxDepth:
			d.err = ErrLarge
			return nil, d.err
		}
	case xml.EndElement:
		d.depth--
	}
	return token, err
}
