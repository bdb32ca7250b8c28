package ftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	real "goftp.io/server/v2"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
)

func TestAsksNothingBeforeItIsAsked(t *testing.T) {
	s := serve(t)
	src := gatewaytest.Closing(t, s.source(t))
	for _, name := range []string{"a\nb", "a\r\nDELE x", "a\x00", "\x7f", "..", "a/../b", "a/./b", "a//b", "/a", "a/", `a\..\b`, "a/.. /b", "...", "a/.\xff\xf1./b", " "} {
		if _, err := src.Open(t.Context(), name, gateway.Want{N: -1}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open %q: %v", name, err)
		}
		if _, err := src.List(t.Context(), name, 1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("List %q: %v", name, err)
		}
		if _, err := src.Put(t.Context(), name, strings.NewReader(""), 0, nil, gateway.If{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Put %q: %v", name, err)
		}
		if err := src.Delete(t.Context(), name, gateway.If{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Delete %q: %v", name, err)
		}
	}
	if n := s.dials(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestConnectionsAreFewAndUsedAgain(t *testing.T) {
	s := serve(t)
	octets := gatewaytest.Octets(200_000, 1)
	s.put(t, "x", octets, gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t, func(o *Options) { o.Conns = 2 }))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, r := range [][2]int64{{0, 200_000}, {199_000, 1000}, {1000, 199_000}, {150_000, 100}} {
				if got, err := gatewaytest.Read(t.Context(), src, "x", r[0], r[1]); err != nil || !bytes.Equal(got, octets[r[0]:r[0]+r[1]]) {
					t.Errorf("%v: %d octets, %v", r, len(got), err)
				}
			}
		})
	}
	wg.Wait()
	if n := s.dials(); n > 2 {
		t.Errorf("%d connections", n)
	}
}

// TestCutRangeNeedsNoSecondPlace: to look at the object again takes a connection, and the only one is
// at a transfer that is not over.
func TestCutRangeNeedsNoSecondPlace(t *testing.T) {
	s := serve(t)
	octets := gatewaytest.Octets(8<<20, 1)
	s.put(t, "x", octets, gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t, func(o *Options) { o.Conns = 1 }))
	for range 3 {
		if got, err := gatewaytest.Read(t.Context(), src, "x", 1000, 2000); err != nil || !bytes.Equal(got, octets[1000:3000]) {
			t.Errorf("%d octets, %v", len(got), err)
		}
	}
}

func TestStaleConnectionsAreForgotten(t *testing.T) {
	s := serve(t)
	s.put(t, "x", []byte("here"), gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t))
	var held []*lease
	for range 4 {
		l, err := src.conns.lease(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
	}
	for _, l := range held {
		l.end()
	}
	s.hangUp()
	if _, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); !errors.Is(err, gateway.ErrUnavailable) {
		t.Errorf("the first: %v", err)
	}
	if got, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); err != nil || string(got) != "here" {
		t.Errorf("the second: %q %v", got, err)
	}
}

func TestLogsIn(t *testing.T) {
	s := serve(t)
	s.put(t, "a/x", []byte("here"), gatewaytest.Past())
	for root, name := range map[string]string{"": "a/x", "a": "x", "/a/": "x", "/": "a/x"} {
		src := gatewaytest.Closing(t, s.source(t, func(o *Options) { o.Root = root }))
		if got, err := gatewaytest.Read(t.Context(), src, name, 0, -1); err != nil || string(got) != "here" {
			t.Errorf("root %q: %q %v", root, got, err)
		}
	}
	src := gatewaytest.Closing(t, s.source(t, func(o *Options) { o.Password = "guess1234" }))
	if _, err := src.Open(t.Context(), "", gateway.Want{}); !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "guess1234") {
		t.Errorf("the wrong password: %v", err)
	}
	var who atomic.Value
	s = serve(t, func(s *server) {
		s.replace("USER", func(sess *real.Session, param string, _ real.Command) {
			who.Store(param)
			sess.WriteMessage(421, "too many of them")
		})
	})
	src = gatewaytest.Closing(t, s.source(t, func(o *Options) { o.User, o.Password = "", "" }))
	if _, err := src.Open(t.Context(), "", gateway.Want{}); !errors.Is(err, gateway.ErrUnavailable) || who.Load() != "anonymous" {
		t.Errorf("%v: %v", who.Load(), err)
	}
	s = serve(t, func(s *server) {
		s.replace("USER", func(sess *real.Session, _ string, _ real.Command) { sess.WriteMessage(530, "anonymous only") })
	})
	if _, err := gatewaytest.Closing(t, s.source(t)).Open(t.Context(), "", gateway.Want{}); !errors.Is(err, fs.ErrPermission) || errors.Is(err, gateway.ErrUnavailable) {
		t.Errorf("a user who is not known: %v", err)
	}
	s = serve(t, func(s *server) {
		s.replace("USER", func(sess *real.Session, _ string, _ real.Command) { sess.Close() })
	})
	if _, err := gatewaytest.Closing(t, s.source(t)).Open(t.Context(), "", gateway.Want{}); !errors.Is(err, gateway.ErrUnavailable) || errors.Is(err, fs.ErrPermission) {
		t.Errorf("no answer to USER: %v", err)
	}
}

// TestDataComesFromTheServerOnly has a server that sends the client elsewhere.
func TestDataComesFromTheServerOnly(t *testing.T) {
	s := serve(t, old, func(s *server) { s.public = "203.0.113.1" })
	s.put(t, "x", []byte("here"), gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t))
	if got, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); err != nil || string(got) != "here" {
		t.Errorf("%q %v", got, err)
	}
	// Addresses of the same kind the library would not suspect.
	l, err := src.conns.lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.end()
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	data, err := l.connect("tcp", net.JoinHostPort("127.0.0.2", port))
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	if to := data.RemoteAddr().String(); to != s.addr {
		t.Errorf("the data connection goes to %s", to)
	}
}

func TestRangeOfHugeObjectReadsLittle(t *testing.T) {
	s := serve(t)
	s.put(t, "huge", nil, gatewaytest.Past())
	path := filepath.Join(s.dir, "huge")
	const size, mib = 1 << 40, 1 << 20
	end := gatewaytest.Octets(mib, 1)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(end, size-mib); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	got, err := gatewaytest.Read(t.Context(), gatewaytest.Closing(t, s.source(t)), "huge", size-mib, mib)
	if err != nil || !bytes.Equal(got, end) {
		t.Errorf("%d octets, %v", len(got), err)
	}
}

func TestServerThatCannotRestart(t *testing.T) {
	octets := gatewaytest.Octets(300_000, 1)
	for _, lies := range []bool{false, true} {
		s := serve(t, func(s *server) {
			s.replace("REST", func(sess *real.Session, _ string, _ real.Command) {
				if lies {
					sess.WriteMessage(350, "as you like") // but begins at the beginning
				} else {
					sess.WriteMessage(502, "no")
				}
			})
		})
		s.put(t, "x", octets, gatewaytest.Past())
		src := gatewaytest.Closing(t, s.source(t))
		for _, r := range [][2]int64{{200_000, 100_000}, {1000, 10}, {100_000, 10_000}} {
			got, err := gatewaytest.Read(t.Context(), src, "x", r[0], r[1])
			if err != nil || !bytes.Equal(got, octets[r[0]:r[0]+r[1]]) {
				t.Errorf("lies %t, %v: %d octets, %v", lies, r, len(got), err)
			}
		}
	}
}

// sends has RETR send something else.
func sends(octets []byte, code int) func(*server) {
	return func(s *server) {
		s.replace("RETR", func(sess *real.Session, _ string, _ real.Command) {
			sess.WriteMessage(150, "here it comes")
			data := sess.DataConn()
			_, _ = data.Write(octets)
			_ = data.Close()
			sess.WriteMessage(code, "that was it")
		})
	}
}

func TestWhatIsNotTheFileIsAnError(t *testing.T) {
	octets := gatewaytest.Octets(100_000, 1)
	for what, c := range map[string]struct {
		sent []byte
		code int
		want error
	}{
		"short":           {octets[:50_000], 226, gateway.ErrChanged},
		"nothing":         {nil, 226, gateway.ErrChanged},
		"broken off":      {octets[:50_000], 426, gateway.ErrUnavailable},
		"long":            {append(octets[:len(octets):len(octets)], 1), 226, gateway.ErrChanged},
		"all, and failed": {octets, 451, gateway.ErrUnavailable},
		"all, and denied": {octets, 550, fs.ErrNotExist},
	} {
		s := serve(t, sends(c.sent, c.code))
		s.put(t, "x", octets, gatewaytest.Past())
		if got, err := gatewaytest.Read(t.Context(), gatewaytest.Closing(t, s.source(t)), "x", 0, -1); !errors.Is(err, c.want) || len(got) >= len(octets) {
			t.Errorf("%s: %d octets, %v", what, len(got), err)
		}
	}
}

func TestHangingServerIsLeftWhenTheContextEnds(t *testing.T) {
	for _, what := range []string{"USER", "MLST", "RETR", "MLSD", "STOR", "RNTO"} {
		asked := make(chan struct{})
		var hangs atomic.Bool
		hangs.Store(true)
		s := serve(t, func(s *server) {
			s.replace(what, func(sess *real.Session, param string, original real.Command) {
				if hangs.CompareAndSwap(true, false) {
					close(asked)
					return // and no reply
				}
				original.Execute(sess, param)
			})
		})
		s.put(t, "x", []byte("here"), gatewaytest.Past())
		src := gatewaytest.Closing(t, s.source(t, func(o *Options) { o.Conns = 1 }))
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asked
			cancel()
		}()
		var err error
		switch what {
		case "MLSD":
			_, err = src.List(ctx, "", 9)
		case "STOR", "RNTO":
			_, err = src.Put(ctx, "x", strings.NewReader("new"), 3, nil, gateway.If{})
		default:
			_, err = gatewaytest.Read(ctx, src, "x", 0, -1)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
		if got, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); err != nil || string(got) != "here" {
			t.Errorf("%s, after it: %q %v", what, got, err)
		}
		if l := leftovers(t, s.dir); len(l) > 0 {
			t.Errorf("%s: %q", what, l)
		}
	}
}

// leftovers are files of Put that should be gone.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, ".larder-*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestEndlessFolderIsBrokenOff(t *testing.T) {
	for _, line := range []string{"Type=file;Modify=20240506070809;Size=7; file %d\r\n", "Type=file;Size=7; %d" + strings.Repeat("x", 900) + "\r\n"} {
		s := serve(t, func(s *server) {
			s.replace("MLSD", func(sess *real.Session, _ string, _ real.Command) {
				sess.WriteMessage(150, "here it comes")
				for i := 0; ; i++ {
					if _, err := fmt.Fprintf(sess.DataConn(), line, i); err != nil {
						return
					}
				}
			})
		})
		src := gatewaytest.Closing(t, s.source(t))
		got, err := src.List(t.Context(), "", 50)
		if err != nil || len(got) != 50 || got[49].Size != 7 {
			t.Errorf("%d entries, %v", len(got), err)
		}
	}
}

func TestEndlessReplyIsBrokenOff(t *testing.T) {
	s := serve(t, func(s *server) {
		s.replace("MLST", func(sess *real.Session, _ string, _ real.Command) {
			sess.WriteMessage(250, strings.Repeat("x", 5<<20))
		})
	})
	if _, err := gatewaytest.Closing(t, s.source(t)).Open(t.Context(), "x", gateway.Want{}); !errors.Is(err, errTooMuch) {
		t.Error(err)
	}
}

func TestListsFoldersOfAnyName(t *testing.T) {
	for _, prepare := range []func(*server){func(*server) {}, old} {
		s := serve(t, prepare)
		for _, folder := range []string{"-la", "[a]*", "*", "a b"} {
			s.put(t, folder+"/x "+folder, []byte("here"), gatewaytest.Past())
			got, err := gatewaytest.Closing(t, s.source(t)).List(t.Context(), folder, 9)
			if err != nil || len(got) != 1 || got[0].Name != "x "+folder || got[0].Size != 4 {
				t.Errorf("%q: %+v %v", folder, got, err)
			}
		}
	}
}

func TestNamesFromTheServerStayInTheFolder(t *testing.T) {
	s := serve(t, func(s *server) {
		s.replace("MLSD", func(sess *real.Session, _ string, _ real.Command) {
			sess.WriteMessage(150, "here it comes")
			for _, name := range []string{".", "..", "../x", "/etc/passwd", "a\x01b", "", "good"} {
				fmt.Fprintf(sess.DataConn(), "Type=file;Size=1; %s\r\n", name)
			}
			_ = sess.DataConn().Close()
			sess.WriteMessage(226, "done")
		})
	})
	got, err := gatewaytest.Closing(t, s.source(t)).List(t.Context(), "", 9)
	if err != nil || len(got) != 1 || got[0].Name != "good" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestServerThatTellsLittle(t *testing.T) {
	for what, c := range map[string]struct {
		missing []string
		version bool
	}{
		"no times":         {[]string{"MLST", "MLSD", "MDTM"}, false},
		"nothing but LIST": {[]string{"MLST", "MLSD", "MDTM", "SIZE"}, false},
	} {
		s := serve(t, func(s *server) {
			for _, m := range c.missing {
				delete(s.commands, m)
			}
		})
		s.put(t, "dir/x", []byte("here"), gatewaytest.Past())
		s.put(t, "dir/empty", nil, gatewaytest.Past())
		src := gatewaytest.Closing(t, s.source(t))
		o, err := src.Open(t.Context(), "dir/x", gateway.Want{})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if i := o.Info(); i.Version != "" || i.Certain || !i.Modified.IsZero() || i.Size != 4 {
			t.Errorf("%s: %+v", what, i)
		}
		if got, err := gatewaytest.Read(t.Context(), src, "dir/x", 1, 2); err != nil || string(got) != "er" {
			t.Errorf("%s: %q %v", what, got, err)
		}
		for _, folder := range []string{"", "dir"} {
			if o, err := src.Open(t.Context(), folder, gateway.Want{}); err != nil || !o.Info().Folder {
				t.Errorf("%s: %q: %v", what, folder, err)
			}
		}
		for _, none := range []string{"none", "none/x", "dir/none", "dir/x/none"} {
			if _, err := src.Open(t.Context(), none, gateway.Want{}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %q: %v", what, none, err)
			}
		}
		if got, err := src.List(t.Context(), "dir", 9); err != nil || len(got) != 2 || !got[0].Modified.IsZero() {
			t.Errorf("%s: %+v %v", what, got, err)
		}
	}
}

// TestSizeThatIsNotToldIsAsked: the library takes a size that MLST does not tell for zero.
func TestSizeThatIsNotToldIsAsked(t *testing.T) {
	s := serve(t, func(s *server) { s.driver = silent{s.driver} })
	s.put(t, "x", []byte("here"), gatewaytest.Past())
	if got, err := gatewaytest.Read(t.Context(), gatewaytest.Closing(t, s.source(t)), "x", 0, -1); err != nil || string(got) != "here" {
		t.Errorf("%q %v", got, err)
	}
}

// A silent driver tells MLST no sizes.
type silent struct{ real.Driver }

type sizeless struct{ os.FileInfo }

func (sizeless) Size() int64 { return 0 }

func (d silent) Stat(ctx *real.Context, path string) (os.FileInfo, error) {
	i, err := d.Driver.Stat(ctx, path)
	if err == nil && ctx.Cmd == "MLST" {
		i = sizeless{i}
	}
	return i, err
}

func TestRepliesMeanWhatTheySay(t *testing.T) {
	for _, c := range []struct {
		code int
		text string
		want error
	}{
		{550, "No such file", fs.ErrNotExist},
		{550, "Permission denied.", fs.ErrPermission},
		{530, "Not logged in.", fs.ErrPermission},
		{553, "Not with that name", fs.ErrPermission},
		{421, "Too many connections", gateway.ErrUnavailable},
		{450, "Busy", gateway.ErrUnavailable},
		{451, "Local error", gateway.ErrUnavailable},
		{452, "No space", gateway.ErrFull},
		{552, "Quota exceeded", gateway.ErrFull},
		{0, "garbage", gateway.ErrUnavailable},
		{213, "what a size has", gateway.ErrUnavailable},
	} {
		var asked atomic.Bool
		s := serve(t, func(s *server) {
			s.replace("MLST", func(sess *real.Session, param string, original real.Command) {
				if asked.Swap(true) {
					original.Execute(sess, param)
					return
				}
				sess.WriteMessage(c.code, c.text)
			})
		})
		s.put(t, "x", []byte("here"), gatewaytest.Past())
		src := gatewaytest.Closing(t, s.source(t))
		if _, err := src.Open(t.Context(), "x", gateway.Want{}); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%d %s: %v", c.code, c.text, err)
		}
		if got, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); err != nil || string(got) != "here" {
			t.Errorf("after %d %s: %q %v", c.code, c.text, got, err)
		}
	}
}

func TestFailedReplacementLeavesTheOldObject(t *testing.T) {
	for what, prepare := range map[string]func(*server){
		"the server loses octets": func(s *server) {
			s.replace("STOR", func(sess *real.Session, param string, original real.Command) {
				original.Execute(sess, param)
				_ = os.Truncate(filepath.Join(s.dir, param), 1)
			})
		},
		"it has no room": func(s *server) {
			s.replace("STOR", func(sess *real.Session, _ string, _ real.Command) {
				sess.WriteMessage(150, "go on")
				_, _ = io.Copy(io.Discard, sess.DataConn())
				sess.WriteMessage(552, "full")
			})
		},
		"it does not rename": func(s *server) {
			s.replace("RNTO", func(sess *real.Session, _ string, _ real.Command) { sess.WriteMessage(553, "no") })
		},
		"it breaks down": func(s *server) {
			s.replace("RNTO", func(sess *real.Session, _ string, _ real.Command) { sess.Close() })
		},
	} {
		s := serve(t, prepare)
		s.put(t, "x", []byte("old"), gatewaytest.Past())
		src := gatewaytest.Closing(t, s.source(t))
		_, err := src.Put(t.Context(), "x", strings.NewReader("new"), 3, nil, gateway.If{})
		if err == nil || errors.Is(err, gateway.ErrFull) != (what == "it has no room") {
			t.Errorf("%s: %v", what, err)
		}
		if got, err := os.ReadFile(filepath.Join(s.dir, "x")); err != nil || string(got) != "old" {
			t.Errorf("%s: %q %v", what, got, err)
		}
		if l := leftovers(t, s.dir); len(l) > 0 {
			t.Errorf("%s: %q", what, l)
		}
	}
}

// TestReplacesWhereRenameDoesNot has a server that renames over nothing, like IIS.
func TestReplacesWhereRenameDoesNot(t *testing.T) {
	for _, failing := range []int32{0, 2} {
		var renames atomic.Int32
		s := serve(t, func(s *server) {
			s.replace("RNTO", func(sess *real.Session, param string, original real.Command) {
				if _, err := os.Lstat(filepath.Join(s.dir, param)); err == nil || renames.Add(1) == failing {
					sess.WriteMessage(550, "cannot")
					return
				}
				original.Execute(sess, param)
			})
		})
		s.put(t, "x", []byte("old"), gatewaytest.Past())
		src := gatewaytest.Closing(t, s.source(t))
		_, err := src.Put(t.Context(), "x", strings.NewReader("new"), 3, nil, gateway.If{})
		want := "new"
		if failing > 0 {
			want = "old"
		}
		if got, readErr := os.ReadFile(filepath.Join(s.dir, "x")); readErr != nil || string(got) != want || (err == nil) != (failing == 0) {
			t.Errorf("rename %d fails: %q %v (%v)", failing, got, readErr, err)
		}
		if l := leftovers(t, s.dir); len(l) > 0 {
			t.Errorf("rename %d fails: %q", failing, l)
		}
	}
}

func TestURLIsUnderstood(t *testing.T) {
	get := func(k string) string { return map[string]string{"LARDER_STORAGE_PASSWORD": "from env"}[k] }
	for url, want := range map[string]Options{
		"ftp://host":                       {Addr: "host:21"},
		"ftp://host/":                      {Addr: "host:21"},
		"ftp://host/pub/a%20b":             {Addr: "host:21", Root: "pub/a b"},
		"ftp://me@host:2121//srv":          {Addr: "host:2121", User: "me", Password: "from env", Root: "/srv"},
		"ftp://me@host/%2Fsrv":             {Addr: "host:21", User: "me", Password: "from env", Root: "/srv"},
		"ftp://me:p%40ss@[::1]/x":          {Addr: "[::1]:21", User: "me", Password: "p@ss", Root: "x"},
		"ftps://me:p@host/x":               {Addr: "host:990", User: "me", Password: "p", Root: "x", Security: Implicit},
		"ftpes://me:p@host/x":              {Addr: "host:21", User: "me", Password: "p", Root: "x", Security: Explicit},
		"ftp://me:p@host/x?tls=explicit":   {Addr: "host:21", User: "me", Password: "p", Root: "x", Security: Explicit},
		"ftpes://me:p@host/x?tls=explicit": {Addr: "host:21", User: "me", Password: "p", Root: "x", Security: Explicit},
	} {
		if got, err := Parse(url, get); err != nil || got.Addr != want.Addr || got.User != want.User || got.Password != want.Password || got.Root != want.Root || got.Security != want.Security {
			t.Errorf("%s: %+v %v", url, got, err)
		}
	}
	for _, url := range []string{"", "host", "http://me:secret@host/", "ftp:///x", "ftp:x", "ftp://me:secret@host:port/", "ftp://me:secret@host/?tls=no", "ftps://me:secret@host/?tls=explicit", "ftp://me:secret@host/x#y", "ftp://me:secret@host/%zz", "ftp:me:secret@host/", "ftp://me:secret/x@host/", "ftp://me:secret?@host/", "me:secret@host/", "ftp://me@host:0/", "ftp://me@host:99999/"} {
		if _, err := Parse(url, get); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	for _, o := range []Options{{Addr: "host"}, {Addr: "host:21", User: "a\r\nDELE x"}, {Addr: "host:21", Password: "a\nb"}, {Addr: "host:21", Root: "a\nb"}, {Addr: "host:21", Security: 9}, {Addr: "host:21", Conns: -1}} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v", o)
		}
	}
}
