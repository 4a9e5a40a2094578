create or replace temp table touched_desired as
select "contactid" as "externalId",
       nullif("firstname", '') as "firstName"
from "contact"."snapshot"
where _page > 7;

create or replace temp table touched_mirror as
with found as materialized (
  select "externalId", "firstName" from "contact"."mirror"
  where rowid in (
    select rowid from "contact"."mirror" where _hash in (select md5_number_lower(key) from "contact"."touched")
  )
)
select * from found where "externalId" in (select key from "contact"."touched");

delete from "contact"."change_set" where key in (select key from "contact"."touched");

insert into "contact"."change_set"
with difference as (
  select coalesce(d."externalId", m."externalId") as key,
         case when d."externalId" is null then 'delete'
              when e."externalId" is not null then 'adopt'
              when m."externalId" is not null then 'update'
              else 'insert' end as kind,
         list_filter([case when d."firstName" is distinct from m."firstName" then 'firstName' end], lambda name: name is not null) as changed
  from touched_desired as d
  left join touched_mirror as m on d."externalId" = m."externalId"
  left join "contact"."existing" as e on d."externalId" = e."externalId"
  where (m."externalId" is null
     or d."firstName" is distinct from m."firstName")
)
select key, kind, case when kind = 'update' then changed end as changed, case kind when 'insert' then 1 when 'update' then 2 when 'adopt' then 2 when 'delete' then 1 end as engine_calls
from difference;
