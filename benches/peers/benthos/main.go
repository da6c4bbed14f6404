// The last release of the same product under its old name, whose source can be had whole: it has the buffer on disk.
package main

import (
	"context"

	_ "github.com/benthosdev/benthos/v4/public/components/io"
	_ "github.com/benthosdev/benthos/v4/public/components/pure"
	_ "github.com/benthosdev/benthos/v4/public/components/sql/base"
	"github.com/benthosdev/benthos/v4/public/service"
	_ "modernc.org/sqlite"
)

func main() {
	service.RunCLI(context.Background())
}
