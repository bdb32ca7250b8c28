package rclone_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway/gatewaytest"
	"github.com/pkg/sftp"
	_ "github.com/rclone/rclone/backend/sftp"
	"github.com/rclone/rclone/fs/config/obscure"
	"golang.org/x/crypto/ssh"
)

// An sshd gives this machine's files to whoever knows the password.
type sshd struct {
	config *ssh.ServerConfig
	l      net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool
}

func newSSHD(t *testing.T) *sshd {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	d := &sshd{conns: map[net.Conn]bool{}}
	d.config = &ssh.ServerConfig{PasswordCallback: func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		if string(password) != "hushhush" {
			return nil, fmt.Errorf("wrong password")
		}
		return nil, nil
	}}
	d.config.AddHostKey(signer)
	if d.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	d.wg.Go(d.accept)
	t.Cleanup(func() {
		_ = d.l.Close() // once
		d.setDown(true)
		d.wg.Wait()
	})
	return d
}

func (d *sshd) accept() {
	for {
		c, err := d.l.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		if d.conns[c] = true; d.down {
			_ = c.Close() // as one that is down
		}
		d.mu.Unlock()
		d.wg.Go(func() { d.serve(c) })
	}
}

func (d *sshd) serve(c net.Conn) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, d.config)
	if err != nil {
		return
	}
	d.wg.Go(func() { ssh.DiscardRequests(requests) })
	for channel := range channels {
		ch, requests, err := channel.Accept()
		if err != nil {
			return
		}
		d.wg.Go(func() {
			for r := range requests {
				_ = r.Reply(r.Type == "subsystem", nil) // else the connection is gone
			}
		})
		server, err := sftp.NewServer(ch)
		if err != nil {
			return
		}
		d.wg.Go(func() {
			_ = server.Serve() // ends with the channel or the connection
			_ = ch.Close()     // maybe closed already
		})
	}
}

// setDown drops all connections, and new ones until it is up again.
func (d *sshd) setDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down = down; down {
		for c := range d.conns {
			_ = c.Close() // maybe closed already
		}
		clear(d.conns)
	}
}

func sftpRemote(t *testing.T, d *sshd, root string) string {
	return fmt.Sprintf(":sftp,host=127.0.0.1,port=%d,user=u,pass=%s,shell_type=none,disable_hashcheck:%s",
		d.l.Addr().(*net.TCPAddr).Port, obscure.MustObscure("hushhush"), root)
}

func overSFTP(t *testing.T) *gatewaytest.Storage {
	d := newSSHD(t)
	root := filepath.Join(t.TempDir(), "root")
	return &gatewaytest.Storage{
		Source: open(t, sftpRemote(t, d, root)),
		Put: func(t *testing.T, name string, octets []byte, at time.Time) {
			put(t, filepath.Join(root, name), octets, at)
		},
		Remove: func(t *testing.T, name string) {
			if err := os.Remove(filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		},
		Down: func(*testing.T) { d.setDown(true) },
		Up:   func(*testing.T) { d.setDown(false) },
	}
}

func TestContractOfSFTP(t *testing.T) {
	t.Parallel() // it waits for rclone, which waits after failures
	gatewaytest.Run(t, overSFTP)
}
