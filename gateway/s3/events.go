package s3

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/larderhq/larder/gateway"
)

// Bounds of what Events reads.
const (
	maxEvents  = 1 << 20 // octets
	maxRecords = 10000
)

// A notification is any of those that Events knows: their fields have no name in
// common.
type notification struct {
	// S3 and MinIO.
	Records []record
	Event   string // s3:TestEvent

	// EventBridge.
	Source     string
	DetailType string `json:"detail-type"`
	Detail     entity

	// SNS, around one of S3.
	Type, Message string
}

type record struct {
	EventName string
	S3        entity
}

type entity struct {
	Bucket struct{ Name string }
	Object struct{ Key string }
}

// Changes implements gateway.Notified: see Events.
func (s *Source) Changes(notification []byte) ([]gateway.Change, error) {
	return Events(notification, s.bucket, s.prefix)
}

// Events tells what changed, by the body of a webhook: a notification of S3 or of
// MinIO (Records), one of EventBridge or an array of them, or one of S3 in the
// envelope of SNS. Other buckets, and what is outside of prefix, are left out, and
// that an object was read, which MinIO can tell too. A test is no change.
//
// The body is 1 MiB at most, with 10,000 records. That it comes from who it says is
// for the caller to find out: nothing here is a signature.
func Events(body []byte, bucket, prefix string) ([]gateway.Change, error) {
	e := &events{bucket: bucket}
	if e.prefix = strings.Trim(prefix, "/"); e.prefix != "" {
		e.prefix += "/"
	}
	if len(body) > maxEvents {
		return nil, fmt.Errorf("s3: notification of %d octets, more than %d", len(body), maxEvents)
	}
	if err := e.read(body, true); err != nil {
		return nil, fmt.Errorf("s3: notification: %w", err)
	}
	return e.changes, nil
}

type events struct {
	bucket, prefix string
	records        int
	changes        []gateway.Change
}

// read reads one notification, or an array of them.
func (e *events) read(text []byte, outer bool) error {
	var all []notification
	if text = bytes.TrimSpace(text); bytes.HasPrefix(text, []byte("[")) {
		if err := json.Unmarshal(text, &all); err != nil {
			return err
		}
	} else {
		all = make([]notification, 1)
		if err := json.Unmarshal(text, &all[0]); err != nil {
			return err
		}
	}
	for _, n := range all {
		if err := e.one(n, outer); err != nil {
			return err
		}
	}
	return nil
}

func (e *events) one(n notification, outer bool) error {
	switch {
	case n.Records != nil:
		for _, r := range n.Records {
			key, err := url.QueryUnescape(r.S3.Object.Key)
			if err != nil {
				return errors.New("a key cannot be decoded")
			}
			if err := e.record(r.EventName, r.S3.Bucket.Name, key); err != nil {
				return err
			}
		}
		return nil
	case n.Event == "s3:TestEvent":
		return nil
	case n.Source == "aws.s3":
		if !strings.HasPrefix(n.DetailType, "Object ") {
			return nil // of the bucket
		}
		return e.record(n.DetailType, n.Detail.Bucket.Name, n.Detail.Object.Key)
	case n.Type == "Notification" && outer:
		return e.read([]byte(n.Message), false)
	case n.Type == "SubscriptionConfirmation" && outer:
		return errors.New("SNS asks to confirm the subscription; do so by the SubscribeURL that it sent")
	}
	return errors.New("it is none of S3, EventBridge or SNS")
}

// record takes one event in.
func (e *events) record(what, bucket, key string) error {
	if e.records++; e.records > maxRecords {
		return fmt.Errorf("more than %d records", maxRecords)
	}
	if what == "" || bucket == "" || key == "" {
		return errors.New("a record without event, bucket or key")
	}
	name, ok := strings.CutPrefix(key, e.prefix)
	name = strings.TrimSuffix(name, "/") // what makes a folder exist
	read := strings.HasPrefix(strings.TrimPrefix(what, "s3:"), "ObjectAccessed:")
	if bucket == e.bucket && ok && !read && (name == "" || valid(name)) {
		e.changes = append(e.changes, gateway.Change{Name: name})
	}
	return nil
}
