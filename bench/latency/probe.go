//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"github.com/larderhq/larder/bench/rig"
)

// planName is the variable by which a process of this program knows that it is
// to ask for hits, and how.
const planName = "LARDER_LATENCY_PLAN"

// patience is how long an answer may be overdue before the measurement is given up.
const patience = 10 * time.Second

// A plan is what a process is to ask for.
type plan struct {
	Port, Conns, Rate, Secs, Set int
	Check                        bool // that answers are hits, and have the right octets
}

// hitPath is the URL of an object of 1 KiB.
func hitPath(number int) string { return "/1024/hit-" + strconv.Itoa(number) }

// quantiles are what is reported of the times of all requests.
var quantiles = [...]float64{0.5, 0.9, 0.99, 0.999, 1}

// An answer is what came of a plan.
type answer struct {
	at       [len(quantiles)]time.Duration
	late     time.Duration // what 99 in 100 requests were sent after they were due though a connection was free
	asked    string        // how many, in words
	priority string        // that the process could get
}

// reply is an answer on its way between the processes.
type reply struct {
	At              [len(quantiles)]time.Duration
	Late            time.Duration
	Asked           int
	Priority, Fault string
}

// ask has a process of its own carry out a plan. It is one so that neither the
// other load nor Go's scheduler keeps it from looking at the clock.
func ask(ctx context.Context, p plan, cpus string) (answer, error) {
	self, err := os.Executable()
	if err != nil {
		return answer{}, err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return answer{}, err
	}
	cmd := exec.CommandContext(ctx, "taskset", "-c", cpus, self)
	cmd.Env = append(os.Environ(), planName+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	var r reply
	if err := cmd.Run(); err != nil {
		return answer{}, fmt.Errorf("the process that asks for hits: %w: %s", err, said.Bytes())
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return answer{}, fmt.Errorf("the process that asks for hits said %q: %w", out.Bytes(), err)
	}
	if r.Fault != "" {
		return answer{}, errors.New(r.Fault)
	}
	return answer{r.At, r.Late, fmt.Sprintf("%d hits, loader late by %d us (p99)", r.Asked, r.Late.Microseconds()), r.Priority}, nil
}

// probe carries out a plan, prints a reply and returns the exit code.
func probe(text string) int {
	var p plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	var r reply
	l, err := newLoader(p)
	if err == nil {
		r.Priority = hurry()
		err = l.run()
	}
	if err != nil {
		r.Fault = err.Error()
	} else {
		for i, q := range quantiles {
			r.At[i] = rig.Quantile(l.times, q)
		}
		r.Late, r.Asked = rig.Quantile(l.lates, 0.99), len(l.times)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return 1
	}
	return 0
}

// hurry binds the caller to its thread, and has the kernel prefer that to all
// others: it needs little, but that at once. It says what could be had.
func hurry() string {
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // what follows allocates next to nothing
	const fifo, timerSlack = 1, 29
	priority := int32(1)
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, 0, fifo, uintptr(unsafe.Pointer(&priority)))
	if errno == 0 {
		return "real-time priority"
	}
	// Otherwise the kernel may let timers run 50 us late.
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, timerSlack, 1, 0)
	if syscall.Setpriority(syscall.PRIO_PROCESS, 0, -20) == nil {
		return "nice -20"
	}
	return "ordinary priority: being root would make it more exact"
}

// A loader asks for hits at a fixed rate on one thread, without Go's timers, which
// are a millisecond late now and then.
type loader struct {
	plan
	content  *rig.Content
	requests [][]byte
	links    []link
	polls    []pollFd
	free     []int // links, longest free first
	began    time.Time
	next     int // the request to be sent next
	times    []time.Duration
	lates    []time.Duration
}

// A link is a connection. Times are since the beginning.
type link struct {
	fd     int
	number int           // of the request under way; -1: none
	due    time.Duration // when that was
	freed  time.Duration // when the last one was answered
	buf    []byte        // of which got octets came
	got    int
}

// pollFd is struct pollfd of poll(2).
type pollFd struct {
	fd             int32
	events, gotten int16
}

// newLoader connects.
func newLoader(p plan) (*loader, error) {
	l := &loader{plan: p, content: rig.NewContent(seed, 1<<10)}
	for i := range p.Set {
		l.requests = append(l.requests, []byte("GET "+hitPath(i)+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n"))
	}
	for i := range p.Conns {
		fd, err := connect(p.Port)
		if err != nil {
			return nil, fmt.Errorf("connection %d to 127.0.0.1:%d: %w", i+1, p.Port, err)
		}
		l.links = append(l.links, link{fd: fd, number: -1, buf: make([]byte, 4<<10)})
		l.polls = append(l.polls, pollFd{fd: int32(fd), events: pollIn})
		l.free = append(l.free, i)
	}
	l.times, l.lates = make([]time.Duration, 0, p.Rate*p.Secs), make([]time.Duration, 0, p.Rate*p.Secs)
	return l, nil
}

const pollIn = 1 // POLLIN of poll(2)

func connect(port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	}
	if err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	return fd, err // the process ends with the first error
}

// due is when a request is to be sent.
func (l *loader) due(number int) time.Duration {
	return time.Duration(number) * time.Second / time.Duration(l.Rate)
}

// run sends all requests when they are due, or as soon as a connection is free,
// and waits for all answers.
func (l *loader) run() error {
	total := l.Rate * l.Secs
	l.began = time.Now()
	for last := time.Duration(0); len(l.times) < total; {
		now := time.Since(l.began)
		for l.next < total && l.due(l.next) <= now && len(l.free) > 0 {
			if err := l.send(now); err != nil {
				return err
			}
			now = time.Since(l.began)
		}
		if now-last > patience {
			return fmt.Errorf("no answer for %v, with %d of %d requests answered", patience, len(l.times), total)
		}
		wait := patience
		if l.next < total && len(l.free) > 0 {
			wait = max(l.due(l.next)-now, 0)
		}
		came, err := l.poll(wait)
		if err != nil {
			return err
		}
		for i := range l.polls {
			if came == 0 {
				break
			}
			if l.polls[i].gotten == 0 {
				continue
			}
			came--
			if err := l.receive(i); err != nil {
				return err
			}
			last = time.Since(l.began)
		}
	}
	return nil
}

// poll waits until an answer comes or wait is over.
func (l *loader) poll(wait time.Duration) (int, error) {
	t := syscall.NsecToTimespec(int64(wait))
	n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&l.polls[0])), uintptr(len(l.polls)), uintptr(unsafe.Pointer(&t)), 0, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case syscall.EINTR:
		return 0, nil
	}
	return 0, os.NewSyscallError("ppoll", errno)
}

// send sends the next request.
func (l *loader) send(now time.Duration) error {
	c := &l.links[l.free[0]]
	l.free = append(l.free[:0], l.free[1:]...)
	c.number, c.due, c.got = l.next, l.due(l.next), 0
	l.lates = append(l.lates, now-max(c.due, c.freed))
	l.next++
	r := l.requests[l.object(c.number)]
	if n, err := syscall.Write(c.fd, r); n != len(r) {
		return fmt.Errorf("request %d: %d octets of %d could be sent: %w", c.number, n, len(r), err)
	}
	return nil
}

// object is what a request asks for: all equally often, and none of them after
// its neighbour.
func (l *loader) object(number int) int { return number * 7919 % l.Set }

// receive reads what came on a link.
func (l *loader) receive(i int) error {
	c := &l.links[i]
	n, err := syscall.Read(c.fd, c.buf[c.got:])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case err != nil:
		return fmt.Errorf("request %d: %w", c.number, err)
	case n == 0:
		return fmt.Errorf("the connection was closed at request %d, or before", c.number)
	case c.number < 0:
		return fmt.Errorf("octets that nobody asked for: %q", c.buf[:n])
	}
	now := time.Since(l.began)
	c.got += n
	name := hitPath(l.object(c.number))
	done, err := complete(c.buf[:c.got], name, l.Check, l.content)
	if err != nil {
		return fmt.Errorf("GET %s: %w", name, err)
	}
	if done {
		l.times = append(l.times, now-c.due)
		c.number, c.freed = -1, now
		l.free = append(l.free, i)
	}
	return nil
}

// complete tells whether all of an answer is there. The error says what is wrong
// with it.
func complete(in []byte, name string, check bool, content *rig.Content) (bool, error) {
	head, body, ok := bytes.Cut(in, []byte("\r\n\r\n"))
	if !ok {
		if len(in) == cap(in) {
			return false, fmt.Errorf("the head is longer than %d octets", len(in))
		}
		return false, nil
	}
	const size = 1 << 10
	switch {
	case !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")):
		return false, fmt.Errorf("no 200: %q", head)
	case !bytes.Equal(field(head, "Content-Length"), []byte("1024")) || len(body) > size:
		return false, fmt.Errorf("not %d octets: %q", size, head)
	case len(body) < size:
		return false, nil
	case !check:
		return true, nil
	case !bytes.Contains(field(head, "Cache-Status"), []byte("; hit")):
		return false, fmt.Errorf("no hit: %q", head)
	case !bytes.Equal(body, content.Body(name, size)):
		return false, rig.ErrWrong
	}
	return true, nil
}

// field is the value of the first line of that name, which has to be spelt so.
func field(head []byte, name string) []byte {
	_, rest, _ := bytes.Cut(head, []byte("\r\n"+name+": "))
	value, _, _ := bytes.Cut(rest, []byte("\r\n"))
	return value
}
