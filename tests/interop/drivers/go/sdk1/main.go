// Drives `aliyun-oss-go-sdk`, the first official SDK for Go.
package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"interop/service"
)

type place struct {
	bucket  *oss.Bucket
	witness *service.Witness
}

var (
	places = map[service.At]place{}
	// The error of the SDK does not carry the answer's headers; its option GetResponseHeader hands them out.
	refusal http.Header
)

// Kept, so that connections are used again.
func placeOf(at service.At) (place, error) {
	if there, known := places[at]; known {
		return there, nil
	}
	witness := service.NewWitness()
	options := []oss.ClientOption{
		oss.HTTPClient(&http.Client{Transport: witness}),
		oss.Region(at.Region),
		oss.UseCname(at.Addressing == "cname"),
		oss.ForcePathStyle(at.Addressing == "path"),
		oss.SecurityToken(at.Token),
	}
	if at.Signature == "v4" {
		options = append(options, oss.AuthVersion(oss.AuthV4))
	}
	client, err := oss.New(at.Endpoint, at.ID, at.Secret, options...)
	if err != nil {
		return place{}, err
	}
	bucket, err := client.Bucket(at.Bucket)
	places[at] = place{bucket, witness}
	return places[at], err
}

// A verb that is told its place.
func in(verb func(place, service.Request) (service.Facts, error)) service.Verb {
	return func(request service.Request) (service.Facts, error) {
		refusal = nil
		there, err := placeOf(request.At)
		if err != nil {
			return nil, err
		}
		return verb(there, request)
	}
}

func put(there place, request service.Request) (service.Facts, error) {
	var headers http.Header
	err := there.bucket.PutObject(request.Key, bytes.NewReader(request.Data), oss.GetResponseHeader(&headers))
	if err != nil {
		return nil, err
	}
	crc := service.Number(headers, oss.HTTPHeaderOssCRC64)
	return service.Facts{"status": there.witness.Last.StatusCode, "crc64": crc, "etag": service.ETag(headers)}, nil
}

func appendTo(there place, request service.Request) (service.Facts, error) {
	options := []oss.Option{oss.GetResponseHeader(&refusal)}
	if request.InitCRC != nil {
		options = append(options, oss.InitCRC(*request.InitCRC))
	}
	call := &oss.AppendObjectRequest{
		ObjectKey: request.Key, Reader: bytes.NewReader(request.Data), Position: request.Position,
	}
	result, err := there.bucket.DoAppendObject(call, options)
	if err != nil {
		return nil, err
	}
	return service.Facts{
		"status":        there.witness.Last.StatusCode,
		"next_position": result.NextPosition,
		"crc64":         result.CRC,
		"etag":          service.ETag(there.witness.Last.Header),
	}, nil
}

func head(there place, request service.Request) (service.Facts, error) {
	headers, err := there.bucket.GetObjectDetailedMeta(request.Key)
	if err != nil {
		return nil, err
	}
	return service.Facts{
		"length":        service.Number(headers, oss.HTTPHeaderContentLength),
		"type":          service.Header(headers, "X-Oss-Object-Type"),
		"crc64":         service.Number(headers, oss.HTTPHeaderOssCRC64),
		"next_position": service.Number(headers, oss.HTTPHeaderOssNextAppendPosition),
		"etag":          service.ETag(headers),
	}, nil
}

func meta(there place, request service.Request) (service.Facts, error) {
	headers, err := there.bucket.GetObjectMeta(request.Key)
	if err != nil {
		return nil, err
	}
	length := service.Number(headers, oss.HTTPHeaderContentLength)
	return service.Facts{"length": length, "etag": service.ETag(headers)}, nil
}

func get(there place, request service.Request) (service.Facts, error) {
	var options []oss.Option
	if wanted := request.Range(); wanted != "" {
		options = append(options, oss.NormalizedRange(wanted))
	}
	if request.Standard {
		options = append(options, oss.RangeBehavior("standard"))
	}
	result, err := there.bucket.DoGetObject(&oss.GetObjectRequest{ObjectKey: request.Key}, options)
	if err != nil {
		return nil, err
	}
	defer result.Response.Close()
	data, err := io.ReadAll(result.Response)
	return service.Facts{
		"status":        result.Response.StatusCode,
		"data":          data,
		"content_range": service.Header(result.Response.Headers, "Content-Range"),
		"crc64":         result.Response.ServerCRC,
	}, err
}

func download(there place, request service.Request) (service.Facts, error) {
	folder, err := os.MkdirTemp("", "interop")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "copy")
	if err := there.bucket.GetObjectToFile(request.Key, path); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	return service.Facts{"data": data}, err
}

func listV1(there place, request service.Request) (service.Facts, error) {
	options := append(listing(request), oss.Marker(request.After))
	result, err := there.bucket.ListObjects(options...)
	return service.Page(rows(result.Objects), result.CommonPrefixes, result.IsTruncated, result.NextMarker), err
}

func listV2(there place, request service.Request) (service.Facts, error) {
	options := listing(request)
	if request.After != "" {
		options = append(options, oss.ContinuationToken(request.After))
	}
	result, err := there.bucket.ListObjectsV2(options...)
	next := result.NextContinuationToken
	return service.Page(rows(result.Objects), result.CommonPrefixes, result.IsTruncated, next), err
}

func listing(request service.Request) []oss.Option {
	return []oss.Option{oss.Prefix(request.Prefix), oss.Delimiter(request.Delimiter), oss.MaxKeys(request.PageSize())}
}

func rows(objects []oss.ObjectProperties) (rows [][]any) {
	for _, object := range objects {
		rows = append(rows, []any{object.Key, object.Size, object.Type})
	}
	return rows
}

func presign(there place, request service.Request) (service.Facts, error) {
	url, err := there.bucket.SignURL(request.Key, oss.HTTPGet, request.Seconds)
	return service.Facts{"url": url}, err
}

func remove(there place, request service.Request) (service.Facts, error) {
	if err := there.bucket.DeleteObject(request.Key); err != nil {
		return nil, err
	}
	return service.Facts{"status": there.witness.Last.StatusCode}, nil
}

func explain(err error) service.Facts {
	var refused oss.ServiceError
	var inconsistent oss.CRCCheckError
	switch {
	case errors.As(err, &inconsistent): // by the name that the other SDKs give it
		return service.Facts{"error": "InconsistentError", "message": err.Error()}
	case errors.As(err, &refused):
		return service.Facts{
			"error":         refused.Code,
			"status":        refused.StatusCode,
			"message":       refused.Message,
			"request_id":    refused.RequestID,
			"next_position": service.Number(refusal, oss.HTTPHeaderOssNextAppendPosition),
		}
	}
	return nil
}

func main() {
	service.Serve(map[string]service.Verb{
		"put":      in(put),
		"append":   in(appendTo),
		"head":     in(head),
		"meta":     in(meta),
		"get":      in(get),
		"download": in(download),
		"list_v1":  in(listV1),
		"list_v2":  in(listV2),
		"presign":  in(presign),
		"delete":   in(remove),
	}, explain)
}
