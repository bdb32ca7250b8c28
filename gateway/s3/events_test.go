package s3

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/larderhq/larder/gateway"
)

const (
	classic = `{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-west-2","eventName":"ObjectCreated:Put","s3":{"s3SchemaVersion":"1.0","bucket":{"name":"b","arn":"arn:aws:s3:::b"},"object":{"key":"p/a+b%2Bc%C3%A9.jpg","size":1024,"eTag":"d41d"}}},
		{"eventName":"ObjectRemoved:Delete","s3":{"bucket":{"name":"b"},"object":{"key":"p/gone"}}}]}`
	ofMinIO = `{"EventName":"s3:ObjectCreated:Put","Key":"b/p/x y","Records":[{"eventVersion":"2.0","eventSource":"minio:s3","eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"p%2Fx+y","size":1}},"source":{"host":"1.2.3.4","userAgent":"MinIO"}}]}`
	bridge  = `{"version":"0","id":"1","detail-type":"Object Created","source":"aws.s3","account":"1","resources":["arn:aws:s3:::b"],"detail":{"version":"0","bucket":{"name":"b"},"object":{"key":"p/a+b%2B é","size":5},"reason":"PutObject"}}`
)

func inSNS(message string) string {
	text, _ := json.Marshal(map[string]string{"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:x:1:t", "Subject": "Amazon S3 Notification", "Message": message})
	return string(text)
}

func ofKey(what, bucket, key string) string {
	return fmt.Sprintf(`{"Records":[{"eventName":%q,"s3":{"bucket":{"name":%q},"object":{"key":%q}}}]}`, what, bucket, key)
}

func TestEventsTellWhatChanged(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"S3":             {classic, "a b+cé.jpg|gone"},
		"MinIO":          {ofMinIO, "x y"},
		"EventBridge":    {bridge, "a+b%2B é"},
		"array":          {" [" + bridge + "," + strings.Replace(bridge, "Object Created", "Object Deleted", 1) + "]\n", "a+b%2B é|a+b%2B é"},
		"SNS":            {inSNS(classic), "a b+cé.jpg|gone"},
		"SNS of a test":  {inSNS(`{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}`), ""},
		"test":           {`{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z","Bucket":"b"}`, ""},
		"nothing":        {`{"Records":[]}`, ""},
		"other bucket":   {ofKey("ObjectCreated:Put", "c", "p/x"), ""},
		"outside":        {ofKey("ObjectCreated:Put", "b", "px"), ""},
		"above":          {ofKey("ObjectCreated:Put", "b", "p"), ""},
		"root's marker":  {ofKey("ObjectCreated:Put", "b", "p/"), ""},
		"marker":         {ofKey("ObjectCreated:Put", "b", "p/d/"), "d"},
		"no name":        {ofKey("ObjectCreated:Put", "b", "p/../x"), ""},
		"read":           {ofKey("s3:ObjectAccessed:Get", "b", "p/x"), ""},
		"expired":        {ofKey("s3:LifecycleExpiration:Delete", "b", "p/x"), "x"},
		"of the bucket":  {`{"source":"aws.s3","detail-type":"Bucket Something","detail":{}}`, ""},
		"bridge, other":  {strings.Replace(bridge, `"name":"b"`, `"name":"c"`, 1), ""},
		"empty list":     {`[]`, ""},
		"SNS of bridges": {inSNS(bridge), "a+b%2B é"},
	} {
		got, err := Events([]byte(c.body), "b", "/p/")
		var names []string
		for _, g := range got {
			if g.Under {
				t.Errorf("%s: %+v", name, g)
			}
			names = append(names, g.Name)
		}
		if err != nil || strings.Join(names, "|") != c.want {
			t.Errorf("%s: %q, %v", name, names, err)
		}
	}
	if got, err := Events([]byte(ofKey("ObjectCreated:Put", "b", "p/")), "b", "p"); err != nil || !slices.Equal(got, []gateway.Change{{Name: ""}}) {
		t.Errorf("the marker of the root: %v, %v", got, err)
	}
	if got, err := Events([]byte(classic), "b", ""); err != nil || len(got) != 2 || got[1].Name != "p/gone" {
		t.Errorf("without a prefix: %v, %v", got, err)
	}
}

func TestEventsThatAreNoneAreErrors(t *testing.T) {
	many := `{"eventName":"x","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}`
	for name, body := range map[string]string{
		"nothing":       "",
		"no JSON":       "Records",
		"cut off":       classic[:200],
		"more after":    classic + "x",
		"another thing": `{"hello":"world"}`,
		"null":          `null`,
		"number":        `7`,
		"nested array":  `[[` + bridge + `]]`,
		"no key":        ofKey("ObjectCreated:Put", "b", ""),
		"no event":      ofKey("", "b", "x"),
		"bad key":       ofKey("ObjectCreated:Put", "b", "%zz"),
		"other source":  strings.Replace(bridge, "aws.s3", "aws.ec2", 1),
		"subscription":  `{"Type":"SubscriptionConfirmation","SubscribeURL":"https://sns"}`,
		"SNS of SNS":    inSNS(inSNS(classic)),
		"SNS of words":  inSNS("hello"),
		"too long":      classic + strings.Repeat(" ", maxEvents),
		"too many":      `{"Records":[` + strings.Repeat(many+",", maxRecords) + many + `]}`,
	} {
		if got, err := Events([]byte(body), "b", "p"); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzEvents(f *testing.F) {
	for _, s := range []string{classic, ofMinIO, bridge, "[" + bridge + "]", inSNS(classic), `{"Event":"s3:TestEvent"}`} {
		f.Add([]byte(s), "p")
	}
	f.Fuzz(func(t *testing.T, body []byte, prefix string) {
		got, err := Events(body, "b", prefix)
		if err != nil && got != nil || len(got) > maxRecords {
			t.Errorf("%d changes, %v", len(got), err)
		}
		for _, c := range got {
			if c.Name != "" && !valid(c.Name) {
				t.Errorf("%q is no name", c.Name)
			}
		}
	})
}
