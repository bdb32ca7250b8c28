package admin

import (
	"fmt"
	"net"
	"strings"
)

// LeastToken is how many characters a token has at least.
const LeastToken = 16

// Sendable tells whether a field can have a token.
func Sendable(token string) bool {
	return !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
}

// isSocket tells the path of a socket from host:port.
func isSocket(where string) bool { return strings.Contains(where, "/") }

// secure is what a place begins with that is asked by https.
const secure = "https://"

// Valid tells what is wrong with a place of an API that is to be asked: the path of a socket,
// with a slash in it, or host:port, for which there has to be a token, or https://host:port, for
// which there has to be a token or a certificate. Nil: nothing.
func Valid(where, token string, certified bool) error {
	if at, ok := strings.CutPrefix(where, secure); ok {
		if isSocket(at) {
			return fmt.Errorf("%q has a path: write https://host:port", where)
		}
		return valid(at, token, certified)
	}
	return valid(where, token, false)
}

func valid(where, token string, certified bool) error {
	if strings.Contains(where, "://") {
		return fmt.Errorf("%q is a URL: write host:port, or the path of a socket", where)
	}
	if isSocket(where) {
		return nil
	}
	if _, _, err := net.SplitHostPort(where); err != nil {
		return fmt.Errorf("%q is neither host:port nor the path of a socket: write it as 127.0.0.1:9000, or with a slash in it, as ./larder.sock", where)
	}
	const advice = "over TCP the admin API needs a token: put a random word of %d characters or more into LARDER_ADMIN_TOKEN, as from openssl rand -hex 16"
	if token == "" && certified {
		return nil
	}
	if len(token) < LeastToken {
		return fmt.Errorf(advice, LeastToken)
	}
	if !Sendable(token) {
		return fmt.Errorf(advice+"; this one has a blank in it, or what is not ASCII", LeastToken)
	}
	return nil
}

// Listen listens at the path of a socket, which only this user may use, or at host:port, for
// which there has to be a token, unless those who come there are to be certified. What is spoken
// there is up to the caller.
func Listen(where, token string, certified bool) (net.Listener, error) {
	if err := valid(where, token, certified); err != nil {
		return nil, err
	}
	if isSocket(where) {
		return listenPrivately(where)
	}
	return net.Listen("tcp", where)
}
