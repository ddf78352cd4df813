# Fit the miles per gallon of the 32 cars of 1974 that R brings along. Writes model.rds beside this file.

cars <- transform(mtcars, transmission = factor(am, labels = c("automatic", "manual")))
fit <- lm(mpg ~ wt + hp + transmission, data = cars)
here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)))
saveRDS(fit, file.path(here, "model.rds"))
