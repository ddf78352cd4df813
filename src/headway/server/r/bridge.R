# The R side of a model server: reads model.R, then answers one request after the other until its pipe is closed.
#
# A message is its length in four bytes and then what serialize() writes. Requests are list(what, ...), answers
# list("ok", value, metrics) or list("error" or "invalid", message, place, calls). Base R only. What R code prints
# goes to the log: the channel has descriptors of its own.
#
# Called as: Rscript bridge.R READ_FD WRITE_FD, with the model's folder as working directory.

local({
  descriptors <- commandArgs(trailingOnly = TRUE)
  options(keep.source = TRUE, warn = 1)
  folder <- paste0(normalizePath("."), "/")
  code <- new.env(parent = globalenv())
  own <- new.env(parent = globalenv())

  # -- what of a value can be told outside of R -------------------------------------------------------------------

  kept <- c("dim", "levels", "class", "units", "tzone")
  classes <- c("factor", "Date", "POSIXct", "difftime", "integer64")

  plain <- function(x) {
    if (is.null(x)) return(NULL)
    if (inherits(x, "POSIXlt")) x <- as.POSIXct(x)
    if (is.data.frame(x)) {
      columns <- lapply(unclass(x), plain)
      attributes(columns) <- list(names = names(x), class = "data.frame", rows = nrow(x))
      return(columns)
    }
    if (is.atomic(x)) {
      attached <- attributes(x)
      if (!is.null(attached)) {
        attached <- attached[names(attached) %in% kept]
        if (!any(attached$class %in% classes)) attached$class <- NULL
        attributes(x) <- if (length(attached)) attached else NULL
      }
      if (is.complex(x)) stop("complex numbers have no JSON form", call. = FALSE)
      return(if (is.character(x)) enc2utf8(x) else x)
    }
    if (is.list(x) && !isS4(x)) {
      found <- lapply(unclass(x), plain)
      attributes(found) <- if (is.null(names(x))) NULL else list(names = names(x))
      return(found)
    }
    stop(sprintf("a value of class %s has no JSON form; return a data frame, a vector, a matrix or a list of them",
                 class(x)[[1L]]), call. = FALSE)
  }

  # -- errors, with their place in the model's files ----------------------------------------------------------------

  place_of <- function(call) {
    source <- attr(call, "srcref")
    if (is.null(source)) return(NULL)
    file <- attr(source, "srcfile")$filename
    if (is.null(file)) return(NULL)
    if (startsWith(file, folder)) file <- substring(file, nchar(folder) + 1L)
    if (startsWith(file, "/") || !file.exists(file)) return(NULL)
    sprintf("%s:%d", file, source[[1L]])
  }

  line_of <- function(call) paste(strtrim(deparse(call, nlines = 1L)[[1L]], 200L), collapse = "")

  attempt <- function(what) {
    calls <- list()
    answer <- tryCatch(
      withCallingHandlers(
        list("ok", what()),
        error = function(e) calls <<- sys.calls()
      ),
      error = function(e) {
        places <- lapply(calls, place_of)
        told <- utils::tail(which(!vapply(places, is.null, TRUE)), 20L)
        shown <- vapply(told, function(i) paste(places[[i]], sub("^[.]handleSimpleError.*", "", line_of(calls[[i]]))), "")
        call <- conditionCall(e)
        list(
          if (inherits(e, "invalid_request")) "invalid" else "error",
          enc2utf8(conditionMessage(e)),
          if (length(told)) places[[max(told)]] else NULL,
          enc2utf8(c(shown, if (is.null(call)) character() else paste("in", line_of(call)))),
          inherits(e, "packageNotFoundError") || grepl("there is no package called", conditionMessage(e), fixed = TRUE)
        )
      }
    )
    answer
  }

  # A model's words for: the request is at fault, not the model. The caller gets a 400.
  assign("invalid_request", function(message) {
    stop(structure(class = c("invalid_request", "error", "condition"),
                   list(message = paste(as.character(message), collapse = " "), call = NULL)))
  }, envir = code)

  # -- requests ---------------------------------------------------------------------------------------------------------

  # Versions of packages: NA where one is not installed.
  versions <- function(names) vapply(names, function(name) {
    if (name == "R") return(as.character(getRversion()))
    found <- tryCatch(suppressWarnings(utils::packageDescription(name, fields = "Version")), error = function(e) NA)
    if (length(found) == 1L && !is.na(found)) as.character(found) else NA_character_
  }, "", USE.NAMES = FALSE)

  compared <- function(one, other) as.integer(utils::compareVersion(one, other))

  read_code <- function() {
    expressions <- tryCatch(
      parse("model.R", keep.source = TRUE, encoding = "UTF-8"),
      error = function(e) {
        found <- regmatches(conditionMessage(e), regexpr("model[.]R:[0-9]+", conditionMessage(e)))
        text <- strsplit(conditionMessage(e), "\n", fixed = TRUE)[[1L]]
        list(message = sub("^model[.]R:[0-9]+:[0-9]+: ", "", text[[1L]]), place = if (length(found)) found)
      }
    )
    if (is.list(expressions)) return(list("error", expressions$message, expressions$place, character(), FALSE))
    lines <- attr(expressions, "srcref")
    at <- 0L
    answer <- attempt(function() for (i in seq_along(expressions)) {
      at <<- i
      eval(expressions[[i]], code)
    })
    if (answer[[1L]] != "ok") {
      if (is.null(answer[[3L]]) && at > 0L) answer[3L] <- list(sprintf("model.R:%d", lines[[at]][[1L]]))
      return(answer)
    }
    # Taken out of the way: within the model, predict(fit, X) and load("x.RData") are R's own again.
    for (name in c("predict", "load", "metrics", "tags", "health_status")) {
      found <- get0(name, envir = code, inherits = FALSE)
      if (is.function(found)) {
        assign(name, found, envir = own)
        if (name %in% c("predict", "load")) rm(list = name, envir = code)
      }
    }
    list("ok", list(functions = ls(own), parameters = parameters()))
  }

  parameters <- function() {
    if (is.null(own$predict)) return(NULL)
    taken <- formals(own$predict)
    needed <- vapply(taken, function(default) is.symbol(default) && !nzchar(as.character(default)), TRUE)
    list(names = as.character(names(taken)), needed = as.logical(needed))
  }

  # What load() has left: the columns that the model tells.
  described <- function() {
    found <- get0("features", envir = code, inherits = TRUE, mode = "any")
    if (is.function(found)) found <- NULL
    if (is.data.frame(found)) found <- found[0L, , drop = FALSE]
    else if (!is.null(found)) stop("features must be a data frame, such as mtcars[0, c(\"wt\", \"hp\")]")
    list(features = plain(found), class_names = as.character(get0("class_names", envir = code, mode = "character")))
  }

  asked <- function(name) if (!is.null(own[[name]])) attempt(function() plain(own[[name]]()))

  # Called by names, not with the data within the call: what R shows of an error stays short.
  predicted <- function(arguments) {
    symbols <- lapply(names(arguments), as.name)
    names(symbols) <- c("", names(arguments)[-1L])
    eval(as.call(c(list(quote(predict)), symbols)), arguments, own)
  }

  answer_to <- function(request) switch(
    request[[1L]],
    predict = {
      answer <- attempt(function() plain(predicted(request[[2L]])))
      if (answer[[1L]] == "ok") answer[3:4] <- list(asked("metrics"), asked("tags"))
      answer
    },
    health = attempt(function() plain(own$health_status())),
    hello = list("ok", list(version = as.character(getRversion()), scratch = tempdir())),
    packages = list("ok", list(versions = versions(request[[2L]]))),
    compare = list("ok", mapply(compared, request[[2L]], request[[3L]], USE.NAMES = FALSE)),
    code = read_code(),
    load = {
      answer <- attempt(function() if (!is.null(own$load)) own$load())
      if (answer[[1L]] == "ok") answer <- attempt(described)
      answer
    },
    echo = list("ok", plain(request[[2L]]))
  )

  # -- the channel --------------------------------------------------------------------------------------------------------

  # Opened by number, so that code which closes all of R's connections takes away nothing that cannot be had again.
  opened <- function(index, mode) file(paste0("/dev/fd/", descriptors[[index]]), mode, raw = TRUE)
  from <- opened(1L, "rb")
  to <- opened(2L, "wb")

  repeat {
    size <- tryCatch(readBin(from, "integer", 1L), error = function(e) {
      from <<- opened(1L, "rb")
      readBin(from, "integer", 1L)
    })
    if (!length(size)) break
    request <- unserialize(readBin(from, "raw", size))
    bytes <- serialize(answer_to(request), NULL, xdr = FALSE, version = 2L)
    if (length(bytes) > .Machine$integer.max) {
      bytes <- serialize(list("error", "a result of more than 2 GiB", NULL, character(), FALSE), NULL, xdr = FALSE,
                         version = 2L)
    }
    tryCatch({
      writeBin(length(bytes), to)
    }, error = function(e) {
      to <<- opened(2L, "wb")
      writeBin(length(bytes), to)
    })
    writeBin(bytes, to)
    flush(to)
    request <- bytes <- NULL
  }
  setwd("/")  # the folder may be gone by now, and R then leaves its temporary one behind
  quit(save = "no")
})
