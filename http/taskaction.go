package http

import (
	"net/http"

	"nabu/commands"
	"nabu/domain"
)

// reportTask serves POST /v2/tasks/:task/action, by which workers tell what has become of a
// task.
func (s *Server) reportTask(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := s.readImageBody(c.Request(), buffer)
	if err != nil {
		return err
	}
	report, err := decodeReport(string(body))
	if err != nil {
		return err
	}
	id, valid := taskID(c.Param("task"))
	if !valid {
		return fault(http.StatusNotFound, "Could not find task %s", c.Param("task"))
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	task, err := commands.Run(ctx, s.Executor, commands.ReportTask{ID: id, Report: report, Rules: s.Images.Tasks})
	if err != nil {
		return err
	}
	return writeTask(c, http.StatusAccepted, task)
}

// decodeReport reads what a worker says, from valid JSON: an object with one action.
func decodeReport(body string) (r domain.TaskReport, err error) {
	if !isObject(body) {
		return r, badReport("The body must be an object with one action.")
	}
	actions := map[string]string{}
	for name, value := range members(body) {
		actions[name] = value
	}
	if len(actions) != 1 {
		return r, badReport("The body must have exactly one action: begin, progress, succeed or fail.")
	}
	for name, its := range actions {
		r.Action = domain.TaskAction(name)
		switch r.Action {
		case domain.TaskBegin, domain.TaskProgress, domain.TaskSucceed, domain.TaskFail:
		default:
			return r, badReport("There is no action %s: it must be begin, progress, succeed or fail.", name)
		}
		if !isObject(its) {
			return r, badReport("The action %s must be an object.", name)
		}
		err = decodeAction(&r, its)
	}
	return r, err
}

// decodeAction reads an action's members. Further ones are ignored.
func decodeAction(r *domain.TaskReport, action string) error {
	sent := map[string]string{}
	for name, value := range members(action) {
		sent[name] = value
	}
	if worker, given := sent["worker"]; given && worker != jsonEmpty {
		if !isText(worker) {
			return badReport("The worker of %s must be a text.", r.Action)
		}
		r.Worker = unquote(worker)
	}
	switch r.Action {
	case domain.TaskProgress, domain.TaskFail:
		text, given := sent["message"]
		if !given || !isText(text) {
			return badReport("The action %s must have a message, a text.", r.Action)
		}
		r.Message = unquote(text)
	case domain.TaskSucceed:
		result := sent["result"]
		if result != "" && result != jsonEmpty && !isObject(result) {
			return badReport("The result of succeed must be an object or null.")
		}
		r.Result = result
	}
	return nil
}

func badReport(text string, args ...any) error {
	return fault(http.StatusBadRequest, text, args...)
}
