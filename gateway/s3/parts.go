package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/larderhq/larder/gateway"
)

// abortTime is how long it may take to remove the parts of an upload that failed.
const abortTime = 10 * time.Second

// unknown sends a body of any size: by one PUT if it is smaller than a part.
func (u *put) unknown(ctx context.Context, body io.Reader) (gateway.Info, error) {
	buf := make([]byte, u.s.partSize)
	n, more, err := fill(body, buf)
	if err != nil {
		return gateway.Info{}, err
	}
	if !more {
		return u.whole(ctx, buf[:n])
	}
	return u.parts(ctx, func(send func(request) error) error {
		for n > 0 {
			if err := send(inMemory(buf[:n], true)); err != nil {
				return err
			}
			if !more {
				break
			}
			if n, more, err = fill(body, buf); err != nil {
				return err
			}
		}
		return nil
	})
}

// fill reads as much as buf has room for, and tells whether there may be more. Only
// io.EOF is an end: a client that went away is io.ErrUnexpectedEOF.
func fill(body io.Reader, buf []byte) (n int, more bool, err error) {
	for n < len(buf) {
		m, err := body.Read(buf[n:])
		n += m
		if errors.Is(err, io.EOF) {
			return n, false, nil
		}
		if err != nil {
			return 0, false, fmt.Errorf("the body: %w", err)
		}
	}
	return n, true, nil
}

// large sends a body that is too large for one PUT, as it comes.
func (u *put) large(ctx context.Context, body io.Reader, size int64) (gateway.Info, error) {
	each := max(u.s.partSize, (size+maxParts-1)/maxParts)
	return u.parts(ctx, func(send func(request) error) error {
		for left := size; left > 0; left -= each {
			q := request{body: body, size: left, again: true}
			if left > each { // what follows is of the next part
				q.body, q.size = io.LimitReader(body, each), each
			}
			if err := send(q); err != nil {
				return err
			}
		}
		return nil
	})
}

// parts makes an object of the parts that each sends, in their order. The condition
// is for the request that makes the object of them.
func (u *put) parts(ctx context.Context, each func(send func(request) error) error) (gateway.Info, error) {
	id, err := u.begin(ctx)
	if err != nil {
		return gateway.Info{}, err
	}
	var c completion
	var size int64
	err = each(func(q request) error {
		etag, err := u.part(ctx, id, len(c.Parts)+1, q)
		c.Parts = append(c.Parts, completed{len(c.Parts) + 1, etag})
		size += q.size
		return err
	})
	var etag string
	if err == nil {
		etag, err = u.complete(ctx, id, c)
	}
	if err != nil {
		return gateway.Info{}, errors.Join(err, u.abort(ctx, id))
	}
	return stored(etag, size), nil
}

type completion struct {
	XMLName xml.Name    `xml:"CompleteMultipartUpload"`
	Parts   []completed `xml:"Part"`
}

type completed struct {
	PartNumber int
	ETag       string
}

// begin returns the id of a new upload.
func (u *put) begin(ctx context.Context) (string, error) {
	_, text, err := u.s.do(ctx, request{method: http.MethodPost, key: u.key, query: url.Values{"uploads": {""}}, header: u.fields}, maxReply)
	if err != nil {
		return "", err
	}
	var begun struct {
		XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
		UploadID string   `xml:"UploadId"`
	}
	if err := xml.Unmarshal(text, &begun); err != nil || begun.UploadID == "" {
		return "", errors.New("the answer does not tell the id of the upload")
	}
	return begun.UploadID, nil
}

// part sends one part and returns its entity tag.
func (u *put) part(ctx context.Context, id string, number int, q request) (string, error) {
	if number > maxParts {
		return "", fmt.Errorf("the body has more than %d parts of %d octets; tell its size", maxParts, u.s.partSize)
	}
	q.method, q.key = http.MethodPut, u.key
	q.query = url.Values{"uploadId": {id}, "partNumber": {strconv.Itoa(number)}}
	resp, _, err := u.s.do(ctx, q, maxReply)
	if err != nil {
		return "", err
	}
	etag := resp.Header.Get("ETag")
	if etag == "" {
		return "", errors.New("the answer to a part does not tell its entity tag")
	}
	return etag, nil
}

// complete makes the object. The server may say 200, and then that it failed.
func (u *put) complete(ctx context.Context, id string, c completion) (string, error) {
	text, err := xml.Marshal(c)
	if err != nil {
		return "", err
	}
	q := inMemory(text, false)
	q.method, q.key, q.query, q.header = http.MethodPost, u.key, url.Values{"uploadId": {id}}, u.cond
	_, text, err = u.s.do(ctx, q, maxReply)
	if err != nil {
		return "", err
	}
	var said struct {
		XMLName xml.Name
		ETag    string
		Code    string
	}
	if err := xml.Unmarshal(text, &said); err != nil {
		return "", fmt.Errorf("the answer to the end of the upload cannot be read: %w", err)
	}
	switch said.XMLName.Local {
	case "CompleteMultipartUploadResult":
		return said.ETag, nil
	case "Error":
		r := &refusal{status: http.StatusOK, kind: kind(0, said.Code)}
		if codes.MatchString(said.Code) {
			r.code = said.Code
		}
		return "", r
	}
	return "", errors.New("the answer to the end of the upload is something else")
}

// abort removes the parts. It goes on for a while when ctx ended, and Close waits.
func (u *put) abort(ctx context.Context, id string) error {
	done := make(chan error, 1)
	u.s.aborts.Go(func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
		defer cancel()
		_, _, err := u.s.do(bounded, request{method: http.MethodDelete, key: u.key, query: url.Values{"uploadId": {id}}, again: true}, maxReply)
		var r *refusal
		if errors.As(err, &r) && r.status == http.StatusNotFound {
			err = nil // gone already
		}
		done <- err
	})
	select {
	case err := <-done:
		if err != nil {
			// Not wrapped: what the caller should do follows from the first error.
			return fmt.Errorf("and the parts could not be removed: %v", err)
		}
		return nil
	case <-ctx.Done():
		return nil // already the error
	}
}
