package h2

import (
	"encoding/binary"
	"fmt"
)

// Frame types (RFC 9113 §6, RFC 9218 §7.1).
const (
	frameData           = 0x0
	frameHeaders        = 0x1
	framePriority       = 0x2
	frameReset          = 0x3
	frameSettings       = 0x4
	framePush           = 0x5
	framePing           = 0x6
	frameGoAway         = 0x7
	frameWindowUpdate   = 0x8
	frameContinuation   = 0x9
	framePriorityUpdate = 0x10
)

// Flags of frames.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings (RFC 9113 §6.5.2, RFC 9218 §2.1).
const (
	settingTableSize       = 0x1
	settingPush            = 0x2
	settingStreams         = 0x3
	settingWindow          = 0x4
	settingFrame           = 0x5
	settingHeaderList      = 0x6
	settingConnect         = 0x8
	settingNoOldPriorities = 0x9
)

// A code says why a stream or a connection ended (RFC 9113 §7).
type code uint32

const (
	noError          code = 0x0
	protocolError    code = 0x1
	internalError    code = 0x2
	flowControlError code = 0x3
	streamClosed     code = 0x5
	frameSizeError   code = 0x6
	refusedStream    code = 0x7
	cancelled        code = 0x8
	compressionError code = 0x9
	enhanceYourCalm  code = 0xb
	frameHeaderLen        = 9
	frameLen              = 16 << 10 // the longest frame that either side sends (RFC 9113 §4.2)
	defaultWindow         = 64<<10 - 1
	largestWindow         = 1<<31 - 1
	settingLen            = 6
	highestStream         = 1<<31 - 1
)

// Preface is what a client begins with (RFC 9113 §3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// A fault ends the connection.
type fault struct {
	code code
	why  string
}

func (f *fault) Error() string { return fmt.Sprintf("%s (HTTP/2 error %d)", f.why, f.code) }

// A frameHeader is what every frame begins with (RFC 9113 §4.1).
type frameHeader struct {
	length int
	kind   byte
	flags  byte
	stream uint32
}

func (h *frameHeader) has(flag byte) bool { return h.flags&flag != 0 }

// readFrameHeader reads the first frameHeaderLen octets of a frame.
func readFrameHeader(b []byte) frameHeader {
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]), kind: b[3], flags: b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & highestStream,
	}
}

func appendFrameHeader(dst []byte, length int, kind, flags byte, stream uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), kind, flags, byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

// setFrameLength fills in the length of a frame whose header is at.
func setFrameLength(b []byte, at, length int) {
	b[at], b[at+1], b[at+2] = byte(length>>16), byte(length>>8), byte(length)
}

func appendUint32(dst []byte, frame byte, stream, value uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHeader(dst, 4, frame, 0, stream), value)
}

func appendReset(dst []byte, stream uint32, c code) []byte {
	return appendUint32(dst, frameReset, stream, uint32(c))
}

func appendWindowUpdate(dst []byte, stream uint32, n int64) []byte {
	return appendUint32(dst, frameWindowUpdate, stream, uint32(n))
}

func appendGoAway(dst []byte, last uint32, c code) []byte {
	dst = binary.BigEndian.AppendUint32(appendFrameHeader(dst, 8, frameGoAway, 0, 0), last)
	return binary.BigEndian.AppendUint32(dst, uint32(c))
}

func appendSetting(dst []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, id), value)
}

// appendHeaders writes a header block as one frame, or as several (RFC 9113 §6.10).
func appendHeaders(dst []byte, stream uint32, block []byte, end bool) []byte {
	kind, flags := byte(frameHeaders), byte(0)
	if end {
		flags = flagEndStream
	}
	for len(block) > frameLen {
		dst = append(appendFrameHeader(dst, frameLen, kind, flags, stream), block[:frameLen]...)
		block, kind, flags = block[frameLen:], frameContinuation, 0
	}
	return append(appendFrameHeader(dst, len(block), kind, flags|flagEndHeaders, stream), block...)
}

// unpad takes the padding off a payload (RFC 9113 §6.1).
func unpad(p []byte) ([]byte, bool) {
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, false
	}
	return p[1 : len(p)-int(p[0])], true
}
