package gateway

import (
	"mime"
	"path"
	"strings"
)

// typeByName is the media type that the end of a name stands for, "" if unknown. What the
// web is made of is the same on each machine; the rest is as this machine has it.
func typeByName(name string) string {
	ext := strings.ToLower(path.Ext(name))
	if t, ok := web[ext]; ok {
		return t
	}
	return mime.TypeByExtension(ext)
}

var web = map[string]string{
	".7z":    "application/x-7z-compressed",
	".aac":   "audio/aac",
	".apk":   "application/vnd.android.package-archive",
	".atom":  "application/atom+xml",
	".avif":  "image/avif",
	".bin":   "application/octet-stream",
	".bmp":   "image/bmp",
	".br":    "application/octet-stream",
	".bz2":   "application/x-bzip2",
	".css":   "text/css; charset=utf-8",
	".csv":   "text/csv; charset=utf-8",
	".deb":   "application/vnd.debian.binary-package",
	".eot":   "application/vnd.ms-fontobject",
	".epub":  "application/epub+zip",
	".flac":  "audio/flac",
	".gif":   "image/gif",
	".gz":    "application/gzip",
	".htm":   "text/html; charset=utf-8",
	".html":  "text/html; charset=utf-8",
	".ico":   "image/vnd.microsoft.icon",
	".ics":   "text/calendar; charset=utf-8",
	".iso":   "application/octet-stream",
	".jpeg":  "image/jpeg",
	".jpg":   "image/jpeg",
	".js":    "text/javascript; charset=utf-8",
	".json":  "application/json",
	".jsonl": "application/jsonl",
	".jxl":   "image/jxl",
	".m3u8":  "application/vnd.apple.mpegurl",
	".m4a":   "audio/mp4",
	".m4s":   "video/iso.segment",
	".map":   "application/json",
	".md":    "text/markdown; charset=utf-8",
	".mjs":   "text/javascript; charset=utf-8",
	".mov":   "video/quicktime",
	".mp3":   "audio/mpeg",
	".mp4":   "video/mp4",
	".mpd":   "application/dash+xml",
	".oga":   "audio/ogg",
	".ogg":   "audio/ogg",
	".ogv":   "video/ogg",
	".otf":   "font/otf",
	".pdf":   "application/pdf",
	".png":   "image/png",
	".rss":   "application/rss+xml",
	".svg":   "image/svg+xml",
	".svgz":  "image/svg+xml",
	".tar":   "application/x-tar",
	".tgz":   "application/gzip",
	".tif":   "image/tiff",
	".tiff":  "image/tiff",
	".ts":    "video/mp2t",
	".ttf":   "font/ttf",
	".txt":   "text/plain; charset=utf-8",
	".vtt":   "text/vtt; charset=utf-8",
	".wasm":  "application/wasm",
	".wav":   "audio/wav",
	".weba":  "audio/webm",
	".webm":  "video/webm",
	".webp":  "image/webp",
	".woff":  "font/woff",
	".woff2": "font/woff2",
	".xhtml": "application/xhtml+xml",
	".xml":   "application/xml",
	".xz":    "application/x-xz",
	".yaml":  "application/yaml",
	".yml":   "application/yaml",
	".zip":   "application/zip",
	".zst":   "application/zstd",
}
