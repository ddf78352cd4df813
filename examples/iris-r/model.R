# Versicolor or virginica? A logistic regression that is fitted when the model is loaded: a data frame out, with a
# probability and a factor.

features <- iris[0, 1:4]

load <- function() {
  fit <<- glm(Species ~ ., family = binomial, data = droplevels(subset(iris, Species != "setosa")))
}

predict <- function(X, features_names) {
  p <- stats::predict(fit, X, type = "response")
  data.frame(virginica = p, species = factor(p > 0.5, levels = c(FALSE, TRUE), labels = levels(fit$model$Species)))
}

health_status <- function() {
  if (!fit$converged) stop("the regression has not converged")
  list(iterations = fit$iter)
}

metrics <- function() list(list(type = "COUNTER", key = "flowers_asked", value = 1))
