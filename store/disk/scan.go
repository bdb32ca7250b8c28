package disk

import (
	"context"

	"github.com/larderhq/larder/store/disk/internal/index"
)

// linesIn returns what the segment seq in a place did to the index: from its
// footer or, if it has none, from its records; then end is where those end.
func (v *volume) linesIn(place int, seq uint64) (lines []line, end int64, sealed bool, err error) {
	lines, sealed, err = v.readFooter(v.life, place, seq)
	if err != nil || sealed {
		return lines, 0, sealed, err
	}
	lines, end, err = v.scan(v.life, place, seq, nil)
	return lines, end, false, err
}

// footerGuess is how much of the end of a segment is read at first, in octets.
const footerGuess = 64 << 10

// readFooter reads the footer of a segment; false: it has none that is whole.
func (v *volume) readFooter(ctx context.Context, place int, seq uint64) ([]line, bool, error) {
	end := v.offset(place) + v.segment
	b := make([]byte, min(footerGuess, v.segment))
	if err := v.readAt(ctx, b, end-int64(len(b))); err != nil {
		return nil, false, err
	}
	n, _, sum, ok := parseTrailer(b[len(b)-trailerLen:], seq, v.segment, v.key)
	if !ok {
		return nil, false, nil
	}
	want := n*lineLen + trailerLen
	if want > len(b) {
		b = make([]byte, want)
		if err := v.readAt(ctx, b, end-int64(want)); err != nil {
			return nil, false, err
		}
	}
	lines, ok := parseLines(b[len(b)-want:len(b)-trailerLen], sum)
	return lines, ok, nil
}

// scanLen is how much of a segment is read at once, in octets.
const scanLen = 1 << 20

// scan finds the records of a segment one by one. What is no record is skipped
// unit by unit, for a record may be torn and those behind it whole. each, if not
// nil, is told of every header that was found. end is where the last record ends,
// in octets from the start of the segment.
func (v *volume) scan(ctx context.Context, place int, seq uint64, each func(h header)) (lines []line, end int64, err error) {
	window := make([]byte, 0, min(scanLen, v.segment))
	from := int64(0) // of the window, in the segment
	for at := int64(unit); at < v.segment; {
		if at < from || at+unit > from+int64(len(window)) {
			from = at
			window = window[:min(int64(cap(window)), v.segment-at)]
			if err := v.readAt(ctx, window, v.offset(place)+at); err != nil {
				return nil, 0, err
			}
		}
		addr := uint64((v.offset(place) + at) / unit)
		h, ok := parseHeader(window[at-from:], v.key, v.segment-at)
		if !ok || h.addr != addr || h.seq != seq {
			at += unit
			continue
		}
		if each != nil {
			each(h)
		}
		if h.kind != kindChunk {
			kills, err := v.killsIn(ctx, h)
			if err != nil {
				return nil, 0, err
			}
			lines = append(lines, linesOf(&h, kills, index.Class(padded(h.octets())))...)
		}
		at += padded(h.octets())
		end = at
	}
	return lines, end, nil
}

// killsIn reads the kills of the record h. If its lists are not whole, there are
// none: then the record was not written to its end, and nobody was told of it.
func (v *volume) killsIn(ctx context.Context, h header) ([]kill, error) {
	if h.kills == 0 {
		return nil, nil
	}
	b := make([]byte, h.headAt()-h.killsAt())
	if err := v.readAt(ctx, b, h.at(h.killsAt())); err != nil {
		return nil, err
	}
	if sumOf(b) != h.tableSum {
		return nil, nil
	}
	kills := make([]kill, h.kills)
	for i := range kills {
		kills[i] = parseKill(b[i*killLen:])
	}
	return kills, nil
}
