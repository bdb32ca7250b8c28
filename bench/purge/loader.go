//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
// to ask, and how.
const planName = "LARDER_PURGE_PLAN"

// patience is how long an answer may be overdue before the measurement is given up.
const patience = 20 * time.Second

// A plan is what a process is to ask for: /KIND/NUMBER, the numbers below Set.
type plan struct {
	Port, Conns int
	Kind        string
	Set         int

	Rate   int           // requests a second; 0: each connection asks again once it has its answer
	Count  int           // how many in all; 0: until Time is over, or our input ends
	Time   time.Duration // 0: it does not matter
	Random bool          // the numbers as in a shuffled pack, not one after the other
	Misses bool          // answers need not be hits
}

// An answer is what came of a plan.
type answer struct {
	P50, P99, Max time.Duration // since each was due; only with a Rate
	Late          time.Duration // what 99 in 100 requests were sent after they were due though a connection was free
	Asked         int
	Took          time.Duration
	Fault         string
}

// An asking is a plan that is being carried out, by a process of its own so that neither
// the other load nor Go's scheduler keeps it from looking at the clock.
type asking struct {
	cmd       *exec.Cmd
	in        io.Closer
	out, said bytes.Buffer
}

// ask starts to carry out a plan. The caller calls answer.
func ask(ctx context.Context, p plan, cpus string) (*asking, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	a := &asking{cmd: exec.CommandContext(ctx, "taskset", "-c", cpus, self)}
	a.cmd.Env = append(os.Environ(), planName+"="+string(text))
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	a.cmd.Stdout, a.cmd.Stderr = &a.out, &a.said
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return a, a.cmd.Start()
}

// end has it stop asking.
func (a *asking) end() { _ = a.in.Close() } // it may have ended by itself

// answer waits until it is done.
func (a *asking) answer() (answer, error) {
	var r answer
	if err := a.cmd.Wait(); err != nil {
		return r, fmt.Errorf("the process that asks: %w: %s", err, a.said.Bytes())
	}
	if err := json.Unmarshal(a.out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("the process that asks said %q: %w", a.out.Bytes(), err)
	}
	if r.Fault != "" {
		return r, errors.New(r.Fault)
	}
	return r, nil
}

// probe carries out a plan, prints an answer and returns the exit code.
func probe(text string) int {
	var l loader
	if err := json.Unmarshal([]byte(text), &l.plan); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if l.Rate > 0 { // whoever asks as fast as it can would let nobody else run
		hurry()
	}
	err := l.run()
	a := answer{Asked: l.answered, Took: time.Since(l.began)}
	if err != nil {
		a.Fault = err.Error()
	}
	a.Late = rig.Quantile(l.lates, 0.99)
	a.P50, a.P99, a.Max = rig.Quantile(l.times, 0.5), rig.Quantile(l.times, 0.99), rig.Quantile(l.times, 1)
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		return 1
	}
	return 0
}

// hurry binds the caller to its thread, and has the kernel prefer that to all
// others, where it may: it needs little, but that at once.
func hurry() {
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // what follows allocates next to nothing
	const fifo, timerSlack = 1, 29
	priority := int32(1)
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, 0, fifo, uintptr(unsafe.Pointer(&priority)))
	if errno != 0 { // otherwise the kernel may let timers run 50 us late
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, timerSlack, 1, 0)
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, -20)
	}
}

// A loader asks on one thread, without Go's timers, which are a millisecond late now
// and then.
type loader struct {
	plan
	links    []link
	polls    []pollFd // of the links, and of our input behind them
	free     []int    // links, longest free first
	began    time.Time
	next     int // the request to be sent next
	answered int
	over     bool // our input has ended
	times    []time.Duration
	lates    []time.Duration
	request  []byte
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

const pollIn, pollHup = 1, 16 // POLLIN and POLLHUP of poll(2)

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

// more tells whether another request is to be sent.
func (l *loader) more(now time.Duration) bool {
	return !l.over && (l.Count == 0 || l.next < l.Count) && (l.Time == 0 || now < l.Time)
}

// due is when a request is to be sent.
func (l *loader) due(number int, now time.Duration) time.Duration {
	if l.Rate == 0 {
		return now
	}
	return time.Duration(number) * time.Second / time.Duration(l.Rate)
}

// run sends all requests when they are due, or as soon as a connection is free,
// and waits for all answers.
func (l *loader) run() error {
	l.began = time.Now()
	for i := range l.Conns {
		fd, err := connect(l.Port)
		if err != nil {
			return fmt.Errorf("connection %d to 127.0.0.1:%d: %w", i+1, l.Port, err)
		}
		l.links = append(l.links, link{fd: fd, number: -1, buf: make([]byte, 8<<10)})
		l.polls = append(l.polls, pollFd{fd: int32(fd), events: pollIn})
		l.free = append(l.free, i)
	}
	l.polls = append(l.polls, pollFd{fd: 0, events: pollIn})
	l.times, l.lates = make([]time.Duration, 0, 1<<20), make([]time.Duration, 0, 1<<20)
	l.began = time.Now()
	for last := time.Duration(0); ; {
		now := time.Since(l.began)
		for len(l.free) > 0 && l.more(now) && l.due(l.next, now) <= now {
			if err := l.send(now); err != nil {
				return err
			}
			now = time.Since(l.began)
		}
		if l.answered == l.next && !l.more(now) {
			return nil
		}
		if now-last > patience {
			return fmt.Errorf("no answer for %v, with %d of %d requests answered", patience, l.answered, l.next)
		}
		wait := patience
		if len(l.free) > 0 && l.more(now) {
			wait = max(l.due(l.next, now)-now, 0)
		}
		came, err := l.poll(wait)
		if err != nil {
			return err
		}
		if came > 0 {
			if err := l.take(); err != nil {
				return err
			}
			last = time.Since(l.began)
		}
	}
}

// take reads what came.
func (l *loader) take() error {
	for i := range l.links {
		if l.polls[i].gotten == 0 {
			continue
		}
		if err := l.receive(i); err != nil {
			return err
		}
	}
	if in := &l.polls[len(l.links)]; in.gotten&(pollIn|pollHup) != 0 {
		l.over, in.fd = true, -1 // nobody writes to us
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

// object is what a request asks for: all equally often.
func (l *loader) object(number int) int {
	if l.Random {
		return number * 7919 % l.Set
	}
	return number % l.Set
}

// send sends the next request.
func (l *loader) send(now time.Duration) error {
	c := &l.links[l.free[0]]
	l.free = append(l.free[:0], l.free[1:]...)
	c.number, c.due, c.got = l.next, l.due(l.next, now), 0
	if l.Rate > 0 {
		l.lates = append(l.lates, now-max(c.due, c.freed))
	}
	l.request = append(append(append(l.request[:0], "GET /"...), l.Kind...), '/')
	l.request = append(strconv.AppendInt(l.request, int64(l.object(l.next)), 10), " HTTP/1.1\r\nHost: "+host+"\r\n\r\n"...)
	l.next++
	if n, err := syscall.Write(c.fd, l.request); n != len(l.request) {
		return fmt.Errorf("request %d: %d octets of %d could be sent: %w", c.number, n, len(l.request), err)
	}
	return nil
}

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
	c.got += n
	done, err := complete(c.buf[:c.got], !l.Misses)
	if err != nil {
		return fmt.Errorf("GET /%s/%d: %w", l.Kind, l.object(c.number), err)
	}
	if done {
		c.freed = time.Since(l.began)
		if l.Rate > 0 {
			l.times = append(l.times, c.freed-c.due)
		}
		l.answered++
		c.number = -1
		l.free = append(l.free, i)
	}
	return nil
}

// complete tells whether all of an answer is there. The error says what is wrong
// with it.
func complete(in []byte, hit bool) (bool, error) {
	head, body, ok := bytes.Cut(in, []byte("\r\n\r\n"))
	switch {
	case !ok && len(in) == cap(in):
		return false, fmt.Errorf("the head is longer than %d octets", len(in))
	case !ok:
		return false, nil
	case !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")):
		return false, fmt.Errorf("no 200: %q", head)
	case len(body) > bodySize:
		return false, fmt.Errorf("more than %d octets: %q", bodySize, head)
	case len(body) < bodySize:
		return false, nil
	case hit && !bytes.Contains(head, []byte("; hit;")):
		return false, fmt.Errorf("no hit: %q", head)
	}
	return true, nil
}
