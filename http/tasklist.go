package http

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"nabu/projections"
)

// Sizes of a page of tasks: Glance's limit_param_default and api_limit_max.
const (
	defaultTaskPage = 25
	maxTaskPage     = 1000
)

// taskStatuses are the values that status can have.
var taskStatuses = []string{"pending", "processing", "success", "failure"}

// listTasks serves GET /v2/tasks.
func (s *Server) listTasks(c *call) error {
	asked := parsePairs(c.Request().URL.RawQuery)
	list, err := s.readTaskList(c, asked)
	if err != nil {
		return err
	}
	var tasks []projections.Task
	if list.Limit > 0 {
		if tasks, err = s.Views.Tasks(c.Request().Context(), list); err != nil {
			return err
		}
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	out := append(*buffer, `{"tasks":[`...)
	for i, t := range tasks {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendTask(append(out, '{'), t.Task), '}')
	}
	first := taskLink(asked)
	out = append(append(out, `],"first":"`...), first.href...)
	out = append(out, `","schema":"/v2/schemas/tasks"`...)
	if n := len(tasks); n > 0 && n == list.Limit {
		first.add("marker", tasks[n-1].ID.String())
		out = append(append(append(out, `,"next":"`...), first.href...), '"')
	}
	*buffer = append(out, '}')
	return writeJSON(c, http.StatusOK, *buffer)
}

// taskLink leads to the first page of a list: what the client asked for, in its order, but the
// marker. Of what it gave several times the first one counts.
func taskLink(asked query) *link {
	its, seen := newLink(taskPath), map[string]bool{"marker": true}
	for _, p := range asked {
		if !seen[p.name] {
			seen[p.name] = true
			its.add(p.name, p.value)
		}
	}
	return its
}

// readTaskList reads what is asked for, with its checks in Glance's order.
func (s *Server) readTaskList(c *call, asked query) (list projections.TaskList, err error) {
	list.Owner, list.All = c.caller.Project, s.seesAll(c.caller)
	direction, given := asked.first("sort_dir")
	if list.Descending = !given || direction == "desc"; given && direction != "asc" && direction != "desc" {
		return list, fault(http.StatusBadRequest, "Invalid sort direction: %s", direction)
	}
	if list.Filters, err = s.readTaskFilters(asked); err != nil {
		return list, err
	}
	if list.Limit, err = readTaskLimit(asked); err != nil {
		return list, err
	}
	if list.SortKey, given = asked.first("sort_key"); given && !slices.Contains(projections.TaskSortKeys, list.SortKey) {
		return list, fault(http.StatusBadRequest, "Sort key supplied was not valid.")
	}
	if marker, _ := asked.first("marker"); marker != "" {
		return list, s.readTaskMarker(c, marker, &list)
	}
	return list, nil
}

func (s *Server) readTaskFilters(asked query) (map[string]string, error) {
	filters := map[string]string{}
	for _, column := range projections.TaskFilters {
		if value, given := asked.first(column); given {
			filters[column] = value
		}
	}
	if status := filters["status"]; status != "" && !slices.Contains(taskStatuses, status) {
		return nil, fault(http.StatusBadRequest, "Invalid status value: %s", status)
	}
	if its := filters["type"]; its != "" && !slices.Contains(s.Images.Tasks.TypeNames(), its) {
		return nil, fault(http.StatusBadRequest, "Invalid type value: %s", its)
	}
	return filters, nil
}

// readTaskLimit reads a whole number, however it is written that Glance takes it.
func readTaskLimit(asked query) (int, error) {
	text, given := asked.first("limit")
	if !given {
		return defaultTaskPage, nil
	}
	text = strings.TrimSpace(text)
	digits := strings.TrimLeft(text, "+-")
	if digits == "" || len(text)-len(digits) > 1 || strings.Trim(digits, "0123456789") != "" {
		return 0, fault(http.StatusBadRequest, "limit param must be an integer")
	}
	if text[0] == '-' && strings.Trim(digits, "0") != "" {
		return 0, fault(http.StatusBadRequest, "limit param must be positive")
	}
	n, err := strconv.Atoi(digits)
	if err != nil { // it is larger than any page
		n = maxTaskPage
	}
	return min(n, maxTaskPage), nil
}

// readTaskMarker finds the task that the page comes after.
func (s *Server) readTaskMarker(c *call, marker string, list *projections.TaskList) error {
	id, valid := taskID(marker)
	if !valid {
		return fault(http.StatusBadRequest, "Invalid marker format")
	}
	// As a list of one, for that leaves out what is large of a task.
	found, err := s.Views.Tasks(c.Request().Context(), projections.TaskList{All: true, Filters: map[string]string{"id": id.String()}, Limit: 1})
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return fault(http.StatusBadRequest, "Task with the given id %s was not found", marker)
	case !s.seesTask(c.caller, found[0].Task):
		return fault(http.StatusForbidden, "Forbidding request, task %s not visible", marker)
	}
	list.Marker = &found[0]
	return nil
}
