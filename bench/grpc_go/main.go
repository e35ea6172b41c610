// A bare rate limit service on grpc-go: a token bucket for each client, and no more. For comparison.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"ratectl/rls"
)

var buckets sync.Map

func decide(request *rls.Request) *rls.Response {
	answer := &rls.Response{Code: rls.Code_OK}
	for _, descriptor := range request.Descriptors {
		key := request.Domain
		for _, entry := range descriptor.Entries {
			key += "|" + entry.Key + "=" + entry.Value
		}
		found, ok := buckets.Load(key)
		if !ok {
			found, _ = buckets.LoadOrStore(key, rate.NewLimiter(9_000_000, 9_000_000))
		}
		bucket := found.(*rate.Limiter)
		status := &rls.Status{Code: rls.Code_OK, Limit: &rls.Limit{Requests: 9_000_000, Unit: rls.Unit_SECOND}}
		if !bucket.Allow() {
			status.Code, answer.Code = rls.Code_OVER_LIMIT, rls.Code_OVER_LIMIT
		}
		status.Remaining = uint32(bucket.Tokens())
		answer.Statuses = append(answer.Statuses, status)
	}
	return answer
}

func handle(_ any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	request := new(rls.Request)
	if err := read(request); err != nil {
		return nil, err
	}
	return decide(request), nil
}

func main() {
	runtime.GOMAXPROCS(1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "envoy.service.ratelimit.v3.RateLimitService",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "ShouldRateLimit", Handler: handle}},
	}, nil)
	fmt.Println(listener.Addr())
	go func() {
		os.Stdin.Read(make([]byte, 1)) // its end is ours
		server.Stop()
	}()
	if err := server.Serve(listener); err != nil {
		panic(err)
	}
}
