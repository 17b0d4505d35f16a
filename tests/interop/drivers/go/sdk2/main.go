// Drives `alibabacloud-oss-go-sdk-v2`, the second official SDK for Go.
package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/credentials"

	"interop/service"
)

var (
	clients = map[service.At]*oss.Client{}
	always  = context.Background()
)

// Kept, so that connections are used again.
func clientOf(at service.At) *oss.Client {
	if clients[at] == nil {
		config := oss.LoadDefaultConfig().
			WithCredentialsProvider(credentials.NewStaticCredentialsProvider(at.ID, at.Secret, at.Token)).
			WithRegion(at.Region).
			WithEndpoint(at.Endpoint).
			WithUsePathStyle(at.Addressing == "path").
			WithUseCName(at.Addressing == "cname").
			WithSignatureVersion(versions[at.Signature]).
			WithRetryMaxAttempts(1).
			WithHttpClient(&http.Client{Transport: service.NewWitness()})
		clients[at] = oss.NewClient(config)
	}
	return clients[at]
}

var versions = map[string]oss.SignatureVersionType{"v1": oss.SignatureVersionV1, "v4": oss.SignatureVersionV4}

func put(request service.Request) (service.Facts, error) {
	result, err := clientOf(request.At).PutObject(always, &oss.PutObjectRequest{
		Bucket: &request.At.Bucket, Key: &request.Key, Body: bytes.NewReader(request.Data),
	})
	if err != nil {
		return nil, err
	}
	crc := service.Number(result.Headers, oss.HeaderOssCRC64)
	return service.Facts{"status": result.StatusCode, "crc64": crc, "etag": service.ETag(result.Headers)}, nil
}

func appendTo(request service.Request) (service.Facts, error) {
	call := &oss.AppendObjectRequest{
		Bucket: &request.At.Bucket, Key: &request.Key, Position: &request.Position, Body: bytes.NewReader(request.Data),
	}
	if request.InitCRC != nil {
		call.InitHashCRC64 = oss.Ptr(strconv.FormatUint(*request.InitCRC, 10))
	}
	result, err := clientOf(request.At).AppendObject(always, call)
	if err != nil {
		return nil, err
	}
	return service.Facts{
		"status":        result.StatusCode,
		"next_position": result.NextPosition,
		"crc64":         service.Number(result.Headers, oss.HeaderOssCRC64),
		"etag":          service.ETag(result.Headers),
	}, nil
}

// By the file-like object of the SDK, which keeps the position itself.
func appendFile(request service.Request) (service.Facts, error) {
	file, err := clientOf(request.At).AppendFile(always, request.At.Bucket, request.Key)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for _, piece := range request.Pieces {
		if _, err := file.Write(piece); err != nil {
			return nil, err
		}
	}
	there, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return service.Facts{"position": there.Size()}, nil
}

// By the file-like object of the SDK.
func readFile(request service.Request) (service.Facts, error) {
	file, err := clientOf(request.At).OpenFile(always, request.At.Bucket, request.Key)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Seek(request.Offset, io.SeekStart); err != nil {
		return nil, err
	}
	data := make([]byte, request.Length)
	_, err = io.ReadFull(file, data)
	return service.Facts{"data": data}, err
}

func head(request service.Request) (service.Facts, error) {
	result, err := clientOf(request.At).HeadObject(always, &oss.HeadObjectRequest{
		Bucket: &request.At.Bucket, Key: &request.Key,
	})
	if err != nil {
		return nil, err
	}
	return service.Facts{
		"length":        result.ContentLength,
		"type":          result.ObjectType,
		"crc64":         service.Number(result.Headers, oss.HeaderOssCRC64),
		"next_position": service.Number(result.Headers, "X-Oss-Next-Append-Position"),
		"etag":          service.ETag(result.Headers),
		"sealed_time":   service.Header(result.Headers, "X-Oss-Sealed-Time"),
	}, nil
}

func meta(request service.Request) (service.Facts, error) {
	result, err := clientOf(request.At).GetObjectMeta(always, &oss.GetObjectMetaRequest{
		Bucket: &request.At.Bucket, Key: &request.Key,
	})
	if err != nil {
		return nil, err
	}
	return service.Facts{"length": result.ContentLength, "etag": service.ETag(result.Headers)}, nil
}

func getting(request service.Request) *oss.GetObjectRequest {
	call := &oss.GetObjectRequest{Bucket: &request.At.Bucket, Key: &request.Key}
	if wanted := request.Range(); wanted != "" {
		call.Range = oss.Ptr("bytes=" + wanted)
	}
	if request.Standard {
		call.RangeBehavior = oss.Ptr("standard")
	}
	return call
}

func get(request service.Request) (service.Facts, error) {
	result, err := clientOf(request.At).GetObject(always, getting(request))
	if err != nil {
		return nil, err
	}
	defer result.Body.Close()
	data, err := io.ReadAll(result.Body)
	return service.Facts{
		"status":        result.StatusCode,
		"data":          data,
		"content_range": result.ContentRange,
		"crc64":         service.Number(result.Headers, oss.HeaderOssCRC64),
	}, err
}

func download(request service.Request) (service.Facts, error) {
	folder, err := os.MkdirTemp("", "interop")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "copy")
	if _, err := clientOf(request.At).GetObjectToFile(always, getting(request), path); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	return service.Facts{"data": data}, err
}

func listV1(request service.Request) (service.Facts, error) {
	result, err := clientOf(request.At).ListObjects(always, &oss.ListObjectsRequest{
		Bucket: &request.At.Bucket, Prefix: &request.Prefix, MaxKeys: int32(request.PageSize()),
		Delimiter: given(request.Delimiter), Marker: given(request.After),
	})
	if err != nil {
		return nil, err
	}
	return page(result.Contents, result.CommonPrefixes, result.IsTruncated, result.NextMarker), nil
}

func listV2(request service.Request) (service.Facts, error) {
	result, err := clientOf(request.At).ListObjectsV2(always, &oss.ListObjectsV2Request{
		Bucket: &request.At.Bucket, Prefix: &request.Prefix, MaxKeys: int32(request.PageSize()),
		Delimiter: given(request.Delimiter), ContinuationToken: given(request.After),
	})
	if err != nil {
		return nil, err
	}
	return page(result.Contents, result.CommonPrefixes, result.IsTruncated, result.NextContinuationToken), nil
}

func given(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func page(objects []oss.ObjectProperties, below []oss.CommonPrefix, isTruncated bool, next *string) service.Facts {
	var rows [][]any
	for _, object := range objects {
		rows = append(rows, []any{object.Key, object.Size, object.Type})
	}
	var prefixes []string
	for _, prefix := range below {
		prefixes = append(prefixes, oss.ToString(prefix.Prefix))
	}
	return service.Page(rows, prefixes, isTruncated, oss.ToString(next))
}

func presign(request service.Request) (service.Facts, error) {
	lifetime := func(options *oss.PresignOptions) { options.Expires = time.Duration(request.Seconds) * time.Second }
	result, err := clientOf(request.At).Presign(always, getting(request), lifetime)
	if err != nil {
		return nil, err
	}
	return service.Facts{"url": result.URL, "signed_headers": result.SignedHeaders}, nil
}

func seal(request service.Request) (service.Facts, error) {
	result, err := clientOf(request.At).SealAppendObject(always, &oss.SealAppendObjectRequest{
		Bucket: &request.At.Bucket, Key: &request.Key, Position: &request.Position,
	})
	if err != nil {
		return nil, err
	}
	return service.Facts{"status": result.StatusCode, "sealed_time": result.SealedTime}, nil
}

func remove(request service.Request) (service.Facts, error) {
	result, err := clientOf(request.At).DeleteObject(always, &oss.DeleteObjectRequest{
		Bucket: &request.At.Bucket, Key: &request.Key,
	})
	if err != nil {
		return nil, err
	}
	return service.Facts{"status": result.StatusCode}, nil
}

func explain(err error) service.Facts {
	var refused *oss.ServiceError
	if errors.As(err, &refused) {
		return service.Facts{
			"error":         refused.Code,
			"status":        refused.StatusCode,
			"message":       refused.Message,
			"request_id":    refused.RequestID,
			"next_position": service.Number(refused.Headers, "X-Oss-Next-Append-Position"),
		}
	}
	if strings.Contains(err.Error(), "crc is inconsistent") { // it has no type; by the name that other SDKs give it
		return service.Facts{"error": "InconsistentError", "message": err.Error()}
	}
	return nil
}

func main() {
	service.Serve(map[string]service.Verb{
		"put":         put,
		"append":      appendTo,
		"append_file": appendFile,
		"read_file":   readFile,
		"head":        head,
		"meta":        meta,
		"get":         get,
		"download":    download,
		"list_v1":     listV1,
		"list_v2":     listV2,
		"presign":     presign,
		"seal":        seal,
		"delete":      remove,
	}, explain)
}
