package message

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/larderhq/larder/internal/rules"
)

// version is the first octet of an encoded head. A head of another version is
// not read: it is a miss.
const version = 2

// ErrHead says that octets are no head of ours, or a damaged one.
var ErrHead = errors.New("message: not a stored head of this version")

// Encode is what a store keeps of s beside the body. Decode reads it back.
func Encode(s *rules.Stored) []byte { return Append(make([]byte, 0, 512), s) }

// Append appends what Encode returns.
func Append(b []byte, s *rules.Stored) []byte {
	b = append(b, version)
	b = binary.AppendUvarint(b, s.Stamp) // first, so that who goes through many need not read more
	b = binary.AppendUvarint(b, uint64(len(s.Marks)))
	for _, m := range s.Marks {
		b = binary.AppendUvarint(b, m)
	}
	b = binary.AppendUvarint(b, uint64(s.Status))
	b = binary.AppendVarint(b, s.Received.UnixNano())
	b = binary.AppendVarint(b, int64(s.InitialAge))
	b = binary.AppendVarint(b, int64(s.Delay))
	b = binary.AppendVarint(b, s.Part.First)
	b = binary.AppendVarint(b, s.Part.Last)
	b = binary.AppendVarint(b, s.Part.Total)
	b = appendBool(b, s.Spent)
	b = appendBool(b, s.ToClose)
	b = appendText(b, s.Version)
	b = appendText(b, s.Extra)
	b = binary.AppendUvarint(b, uint64(len(s.Selecting)))
	for _, sel := range s.Selecting {
		b = appendText(b, sel.Name)
		b = appendBool(b, sel.Present)
		b = appendText(b, sel.Value)
		b = appendText(b, sel.Line)
	}
	lines := 0
	for _, values := range s.Header {
		lines += len(values)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Header)))
	b = binary.AppendUvarint(b, uint64(lines))
	for name, values := range s.Header {
		b = appendText(b, name)
		b = binary.AppendUvarint(b, uint64(len(values)))
		for _, value := range values {
			b = appendText(b, value)
		}
	}
	return b
}

// Decode reads what Encode wrote and derives what the rules need. The octets
// are copied. ErrHead: the head is damaged or of another version.
func Decode(head []byte, terms *rules.Terms) (*rules.Stored, error) {
	return new(Decoder).Decode(head, terms)
}

// A Decoder decodes one head after the other in the same room. It is one
// goroutine's.
type Decoder struct {
	stored rules.Stored
	lines  []string
}

// Decode is the function of that name. The result is good until the next call.
func (d *Decoder) Decode(head []byte, terms *rules.Terms) (*rules.Stored, error) {
	if len(head) == 0 || head[0] != version {
		return nil, ErrHead
	}
	r := reader{text: string(head[1:])}
	s := &d.stored
	stamp, marks := r.stamps()
	*s = rules.Stored{
		Stamp:      stamp,
		Marks:      marks,
		Status:     int(r.uvarint()),
		Received:   time.Unix(0, r.varint()),
		InitialAge: time.Duration(r.varint()),
		Delay:      time.Duration(r.varint()),
		Part:       rules.Part{First: r.varint(), Last: r.varint(), Total: r.varint()},
		Spent:      r.bool(),
		ToClose:    r.bool(),
		Version:    r.textValue(),
		Extra:      r.textValue(),
		Selecting:  s.Selecting[:0],
		Header:     s.Header,
	}
	n := r.count(4)
	s.Selecting = slices.Grow(s.Selecting, n)
	for ; n > 0 && !r.bad; n-- {
		s.Selecting = append(s.Selecting, rules.Selecting{Name: r.textValue(), Present: r.bool(), Value: r.textValue(), Line: r.textValue()})
	}
	names := r.count(2)
	lines := r.count(1)
	all := slices.Grow(d.lines[:0], lines)
	if s.Header == nil {
		s.Header = make(rules.Header, min(names, 64))
	}
	clear(s.Header)
	for ; names > 0 && !r.bad; names-- {
		name, n, from := r.textValue(), r.count(1), len(all)
		if n > lines-from {
			return nil, ErrHead
		}
		for ; n > 0 && !r.bad; n-- {
			all = append(all, r.textValue())
		}
		s.Header[name] = all[from:len(all):len(all)]
	}
	d.lines = all
	if r.bad || r.text != "" || !possible(s) {
		return nil, ErrHead
	}
	s.Read(terms)
	if !s.Chosen() || s.Ended(terms) {
		s.VaryAny = true // nobody knows for whom it was made, or it would not be kept by these terms
	}
	return s, nil
}

// Stamps reads of a head what a Ledger needs to tell whether it has anything to say of it,
// and nothing else.
func Stamps(head []byte) (stamp uint64, marks []uint64, err error) {
	if len(head) == 0 || head[0] != version {
		return 0, nil, ErrHead
	}
	const few = 32 // octets, which need no room outside the stack as a string
	r := reader{text: string(head[1:min(len(head), few)])}
	if stamp, marks = r.stamps(); r.bad && len(head) > few { // many marks
		r = reader{text: string(head[1:])}
		stamp, marks = r.stamps()
	}
	if r.bad {
		return 0, nil, ErrHead
	}
	return stamp, marks, nil
}

func (r *reader) stamps() (stamp uint64, marks []uint64) {
	stamp = r.uvarint()
	for n := r.count(1); n > 0 && !r.bad; n-- {
		marks = append(marks, r.uvarint())
	}
	return stamp, marks
}

// possible tells whether a response can be like that, and be sent.
func possible(s *rules.Stored) bool {
	p := s.Part
	return s.Status >= 200 && s.Status <= 999 && s.InitialAge >= 0 && s.Delay >= 0 &&
		(p.IsZero() || p.First >= 0 && p.Last >= p.First && (p.Total < 0 || p.Total > p.Last))
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// A reader takes values off the front of a text. Once something does not fit
// it is bad, and all it gives is zero.
type reader struct {
	text string
	bad  bool
}

func (r *reader) uvarint() uint64 {
	var v uint64
	for i := 0; i < len(r.text) && i < binary.MaxVarintLen64; i++ {
		c := r.text[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.text = r.text[i+1:]
			return v
		}
	}
	r.fail()
	return 0
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) bool() bool { return r.uvarint() == 1 }

// count reads how many things follow, each of at least size octets: never more
// than are left, so that a damaged head cannot ask for memory.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.text)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) textValue() string {
	n := r.count(1)
	s := r.text[:n]
	r.text = r.text[n:]
	return s
}

func (r *reader) fail() { r.bad, r.text = true, "" }
