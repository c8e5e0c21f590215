package postgres

import (
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// Unreachable is the reason for a failure of which the server has not said more.
const Unreachable = "the database cannot be reached"

// reasons are what those who operate nabu are told of a failure that they have to end, by its
// SQLSTATE or the class of that. No client is told.
var (
	reasonsByCode = map[pqerror.Code]string{
		pqerror.DiskFull:              "the database's disk is full: make room there",
		pqerror.OutOfMemory:           "the database is out of memory: give it more, or less to do",
		pqerror.TooManyConnections:    "the database takes no more connections: raise its max_connections, or lower nabu's",
		pqerror.InsufficientPrivilege: "the database does not let nabu's role do what it has to: look at the role's rights, see docs/operating.md",
	}
	reasonsByClass = map[pqerror.Class]string{
		pqerror.ClassInsufficientResources:             "the database is out of resources: see its log",
		pqerror.ClassInvalidAuthorizationSpecification: "the database refuses nabu's login: look at user and password in database_url, and at pg_hba.conf",
		pqerror.ClassInvalidCatalogName:                "the database that database_url names does not exist",
		pqerror.ClassSyntaxErrorOrAccessRuleViolation:  "the database's schema does not fit this nabu: look at nabu migrate status, and make read models anew with nabu replay",
		pqerror.ClassInvalidSchemaName:                 "the database's schema does not fit this nabu: look at nabu migrate status, and make read models anew with nabu replay",
	}
)

// Reason tells those who operate nabu why the database failed, and what to do.
func Reason(err error) string {
	if reason, known := operatorReason(err); known {
		return reason
	}
	return Unreachable
}

// NeedsOperator says that the server has answered, with a failure that asking again does not
// end: it is out of room, refuses the login, or has another schema.
func NeedsOperator(err error) bool {
	_, known := operatorReason(err)
	return known
}

// IsLoginRefused says that the server answered and let nobody in.
func IsLoginRefused(err error) bool { return isMisconfigured(err) }

func operatorReason(err error) (reason string, known bool) {
	e := pq.As(err)
	if e == nil {
		return "", false
	}
	if reason, known = reasonsByCode[e.Code]; known {
		return reason, true
	}
	reason, known = reasonsByClass[classOf(err)]
	return reason, known
}
