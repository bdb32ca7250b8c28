package disk

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// The first vectors that the authors of SipHash publish, for the key 00 01 ... 0f
// and the messages of 0, 1, 2 ... octets 00 01 02 ...
func TestSipHash(t *testing.T) {
	k := secret{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	var message []byte
	for i, want := range []string{
		"310e0edd47db6f72", "fd67dc93c539f874", "5a4fa9d909806c0d", "2d7efbd796666785",
		"b7877127e09427cf", "8da699cd64557618", "cee3fe586e46c9cb", "37d1018bf50002ab",
		"6224939a79f5f593", "b0e4a90bdf82009e", "f3b9dd94c5bb5d7a", "a7ad6b22462fb3f4",
		"fbe50e86bc8f1e75", "903d84c02756ea14", "eef27a8e90ca23f7", "e545be4961ca29a1",
	} {
		var got [8]byte
		binary.LittleEndian.PutUint64(got[:], k.sum(message))
		if hex.EncodeToString(got[:]) != want {
			t.Errorf("%d octets: %x, want %s", i, got, want)
		}
		message = append(message, byte(i))
	}
}
