-- What runs were told is deleted by age.
create index recorded_at on rotina.recorded (at);
